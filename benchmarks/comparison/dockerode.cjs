// Reads from an attach with dockerode, and prints what it has read as a line of JSON.
//
//     node dockerode.cjs KIND SIZE DIGEST TTY
//
// DOCKER_HOST names the engine, NODE_PATH the folder with dockerode.
'use strict';

const crypto = require('crypto');
const { Writable } = require('stream');
const Docker = require('dockerode');

const [kind, size, digest, tty] = process.argv.slice(2).map((each, at) => (at ? Number(each) : each));
const docker = new Docker();
const sizes = [0, 0];
const hashes = [crypto.createHash('sha256'), crypto.createHash('sha256')];

function add(at, data) {
  sizes[at] += data.length;
  if (digest) hashes[at].update(data);
}

const sink = (at) =>
  new Writable({
    write(data, _, done) {
      add(at, data);
      done();
    },
  });

const ended = (stream) =>
  new Promise((resolve, reject) => {
    stream.on('end', resolve);
    stream.on('close', resolve);
    stream.on('error', reject);
  });

async function attach(stdin) {
  const options = { stream: true, hijack: stdin, stdin, stdout: true, stderr: true };
  return docker.getContainer('web').attach(options);
}

async function read(stream) {
  if (tty) stream.pipe(sink(0));
  else docker.modem.demuxStream(stream, sink(0), sink(1));
  await ended(stream);
  stream.destroy();
}

const kinds = {
  async output() {
    await read(await attach(false));
  },
  async cat() {
    const stream = await attach(true);
    const pattern = Buffer.from(Array.from({ length: 65536 }, (_, at) => at % 256));
    let left = size;
    const write = () => {
      while (left > 0) {
        left -= pattern.length;
        if (!stream.write(pattern)) return stream.once('drain', write);
      }
    };
    write();
    await read(stream);
  },
  async keystrokes() {
    const stream = await attach(true);
    const began = process.hrtime.bigint();
    for (let at = 0; at < size; at++) {
      const echo = new Promise((resolve) => stream.once('data', resolve));
      stream.write('x');
      add(0, await echo);
    }
    const seconds = Number(process.hrtime.bigint() - began) / 1e9;
    stream.destroy();
    return seconds;
  },
  async attach() {
    const began = process.hrtime.bigint();
    for (let at = 0; at < size; at++) await read(await attach(false));
    return Number(process.hrtime.bigint() - began) / 1e9;
  },
};

kinds[kind]().then((seconds) => {
  const digests = digest ? hashes.map((each) => each.digest('hex')) : [];
  const peak = process.resourceUsage().maxRSS * 1024;
  console.log(JSON.stringify({ sizes, digests, seconds: seconds || 0, peak }));
  process.exit(0);
});
