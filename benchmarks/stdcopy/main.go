// Reads one attach with moby's stdcopy, and prints what it has read as a line of JSON.
//
//	main KIND SIZE DIGEST TTY
//
// DOCKER_HOST, DOCKER_TLS_VERIFY and DOCKER_CERT_PATH name the engine.
package main

import (
	"bufio"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"hash"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/docker/docker/pkg/stdcopy"
)

type sink struct {
	size   int
	digest hash.Hash
}

func (s *sink) Write(data []byte) (int, error) {
	s.size += len(data)
	if s.digest != nil {
		s.digest.Write(data)
	}
	return len(data), nil
}

// peak is the largest resident memory of this process, in bytes. Getrusage includes the parent's before execve.
func peak() int {
	status, err := os.ReadFile("/proc/self/status")
	check(err)
	for _, line := range strings.Split(string(status), "\n") {
		var kib int
		if _, err := fmt.Sscanf(line, "VmHWM: %d kB", &kib); err == nil {
			return kib * 1024
		}
	}
	return 0
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func connect() net.Conn {
	scheme, address, _ := strings.Cut(os.Getenv("DOCKER_HOST"), "://")
	if os.Getenv("DOCKER_TLS_VERIFY") == "" {
		conn, err := net.Dial(scheme, address)
		check(err)
		return conn
	}
	directory := os.Getenv("DOCKER_CERT_PATH")
	authority, err := os.ReadFile(directory + "/ca.pem")
	check(err)
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(authority)
	own, err := tls.LoadX509KeyPair(directory+"/cert.pem", directory+"/key.pem")
	check(err)
	conn, err := tls.Dial(scheme, address, &tls.Config{RootCAs: pool, Certificates: []tls.Certificate{own}})
	check(err)
	return conn
}

// attach opens a stream as moby's client does (client/hijack.go): what it returns is a bufio.Reader of the default size,
// 4 KiB, over the connection. StdCopy asks it for more than that, and then it passes the call on to the connection.
// io.Copy uses its WriteTo, which reads 4 KiB at a time. Neither a Unix socket nor sink, like the docker CLI's
// streams.Out, has a method that would take over from it.
func attach(stdin int) (net.Conn, *bufio.Reader) {
	conn := connect()
	fmt.Fprintf(conn, "POST /containers/web/attach?stderr=1&stdin=%d&stdout=1&stream=1 HTTP/1.1\r\n"+
		"Host: localhost\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n", stdin)
	reader := bufio.NewReader(conn)
	for {
		line, err := reader.ReadString('\n')
		check(err)
		if line == "\r\n" {
			break
		}
	}
	return conn, reader
}

func main() {
	kind, digest, tty := os.Args[1], os.Args[3] == "1", os.Args[4] == "1"
	size, err := strconv.Atoi(os.Args[2])
	check(err)
	out, errors := &sink{}, &sink{}
	if digest {
		out.digest, errors.digest = sha256.New(), sha256.New()
	}
	seconds := 0.0
	switch kind {
	case "output", "cat":
		stdin := 0
		if kind == "cat" {
			stdin = 1
		}
		conn, reader := attach(stdin)
		if kind == "cat" {
			go func() {
				pattern := make([]byte, 65536)
				for at := range pattern {
					pattern[at] = byte(at)
				}
				for sent := 0; sent < size; sent += len(pattern) {
					if _, err := conn.Write(pattern); err != nil {
						return
					}
				}
			}()
		}
		if tty {
			_, err = io.Copy(out, reader)
		} else {
			_, err = stdcopy.StdCopy(out, errors, reader)
		}
		check(err)
		conn.Close()
	case "keystrokes":
		conn, reader := attach(1)
		began, buffer := time.Now(), make([]byte, 4096)
		for at := 0; at < size; at++ {
			_, err := conn.Write([]byte("x"))
			check(err)
			read, err := reader.Read(buffer)
			check(err)
			out.Write(buffer[:read])
		}
		seconds = time.Since(began).Seconds()
		conn.Close()
	case "attach":
		began := time.Now()
		for at := 0; at < size; at++ {
			conn, reader := attach(0)
			_, err := stdcopy.StdCopy(out, errors, reader)
			check(err)
			conn.Close()
		}
		seconds = time.Since(began).Seconds()
	}
	digests := []string{}
	if digest {
		for _, each := range []*sink{out, errors} {
			digests = append(digests, fmt.Sprintf("%x", each.digest.Sum(nil)))
		}
	}
	check(json.NewEncoder(os.Stdout).Encode(map[string]any{
		"sizes": []int{out.size, errors.size}, "digests": digests, "seconds": seconds, "peak": peak(),
	}))
}
