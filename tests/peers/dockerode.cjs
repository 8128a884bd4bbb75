// Does one thing with dockerode, and prints what came of it as JSON; bytes are in base64.
//
//     echo '{"create": …, "stdin": base64, …}' | node dockerode.cjs TASK
//
// DOCKER_HOST names the engine, NODE_PATH the folder with dockerode.
'use strict';

const fs = require('fs');
const { PassThrough } = require('stream');
const Docker = require('dockerode');

const docker = new Docker();

// Collects what is written into it.
function sink() {
  const stream = new PassThrough();
  const pieces = [];
  stream.on('data', (piece) => pieces.push(piece));
  return { stream, bytes: () => Buffer.concat(pieces).toString('base64') };
}

const ended = (stream) =>
  new Promise((resolve, reject) => {
    stream.on('end', resolve);
    stream.on('close', resolve);
    stream.on('error', reject);
  });

// Both outputs of a multiplexed stream, up to its end.
async function demultiplex(stream) {
  const out = sink();
  const err = sink();
  docker.modem.demuxStream(stream, out.stream, err.stream);
  await ended(stream);
  return { out: out.bytes(), err: err.bytes() };
}

const tasks = {
  async version() {
    return { version: (await docker.version()).Version, ping: (await docker.ping()).toString() };
  },

  // Attach, start, send all of stdin, half-close, read to the end, wait.
  async attach({ create, stdin }) {
    const container = await docker.createContainer(create);
    const stream = await container.attach({ stream: true, hijack: true, stdin: true, stdout: true, stderr: true });
    const output = create.Tty ? sink() : null;
    if (output) stream.pipe(output.stream);
    const outputs = output ? ended(stream).then(() => ({ out: output.bytes(), err: '' })) : demultiplex(stream);
    await container.start();
    if (create.Tty) {
      await container.resize({ h: 33, w: 111 });
      stream.write(Buffer.from(stdin, 'base64'));
    } else {
      stream.end(Buffer.from(stdin, 'base64'));
    }
    const both = await outputs;
    return { ...both, code: (await container.wait()).StatusCode };
  },

  // Attach without stdin, and without an upgrade: the engine answers 200 and streams.
  async attachPlain({ create }) {
    const container = await docker.createContainer(create);
    const stream = await container.attach({ stream: true, stdout: true, stderr: true });
    const outputs = demultiplex(stream);
    await container.start();
    const both = await outputs;
    return { ...both, code: (await container.wait()).StatusCode };
  },

  // docker.run: create, attach, start, wait in one call of dockerode's own.
  async run({ image, command, create }) {
    const out = sink();
    const err = sink();
    let whole;
    const [answer, container] = await new Promise((resolve, reject) => {
      const done = (error, data, made) => (error ? reject(error) : resolve([data, made]));
      const hub = docker.run(image, command, [out.stream, err.stream], create, {}, done);
      hub.on('stream', (stream) => (whole = ended(stream)));
    });
    await whole; // it calls back when /wait is answered, and may not have read the last output by then
    return { out: out.bytes(), err: err.bytes(), code: answer.StatusCode, id: container.id };
  },

  async exec({ create, command, tty, stdin }) {
    const container = await docker.createContainer(create);
    await container.start();
    const exec = await container.exec({
      Cmd: command, AttachStdin: true, AttachStdout: true, AttachStderr: true, Tty: tty,
    });
    const stream = await exec.start({ hijack: true, stdin: true, Tty: tty });
    let both;
    if (tty) {
      const output = sink();
      stream.pipe(output.stream);
      await exec.resize({ h: 33, w: 111 });
      stream.write(Buffer.from(stdin, 'base64'));
      await ended(stream);
      both = { out: output.bytes(), err: '' };
    } else {
      stream.end(Buffer.from(stdin, 'base64'));
      both = await demultiplex(stream);
    }
    const inspected = await exec.inspect();
    return { ...both, code: inspected.ExitCode, running: inspected.Running };
  },

  // Follow the logs of a container that is killed when it has said something, then read them again.
  async logs({ create, signal }) {
    const container = await docker.createContainer(create);
    await container.start();
    const stream = await container.logs({ follow: true, stdout: true, stderr: true });
    stream.once('data', () => container.kill({ signal }));
    const followed = await demultiplex(stream);
    const again = await container.logs({ follow: false, stdout: true, stderr: true });
    return { ...followed, again: again.toString('base64'), code: (await container.wait()).StatusCode };
  },

  // Wait before the end, remove, and the refusals on the way.
  async lifecycle({ create }) {
    const container = await docker.createContainer(create);
    await container.start();
    const waiting = container.wait();
    const listed = (await docker.listContainers()).some((row) => row.Id === container.id);
    const refused = await container.remove().then(() => null, (error) => error.statusCode);
    await container.kill();
    const code = (await waiting).StatusCode;
    const state = (await container.inspect()).State;
    await container.remove();
    const missing = await container.inspect().then(() => null, (error) => [error.statusCode, error.json.message]);
    return { listed, refused, code, status: state.Status, missing, id: container.id };
  },
};

async function main() {
  const answer = await tasks[process.argv[2]](JSON.parse(fs.readFileSync(0, 'utf8')));
  await new Promise((resolve) => process.stdout.write(JSON.stringify(answer), resolve));
}

main().then(
  () => process.exit(0),
  (error) => {
    process.stderr.write(`${error.stack}\n`);
    process.exit(1);
  },
);
