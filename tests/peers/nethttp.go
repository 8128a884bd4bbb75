// Go's net/http as a program: it reads the requests in one piece of bytes after the other, as dockerd's server does.
//
// On stdin, each piece is its length as four bytes, big endian, and the bytes. On stdout, each answer is a line of JSON:
// the requests, and the text of the error that ended them; it is empty if all bytes were read.
package main

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/json"
	"io"
	"net/http"
	"os"
)

type request struct {
	Method string
	Target string
	Body   []byte
	Close  bool
}

type answer struct {
	Requests []request
	Error    string
}

func read(reader *bufio.Reader) answer {
	found := answer{Requests: []request{}}
	for {
		if _, err := reader.Peek(1); err == io.EOF {
			return found
		}
		head, err := http.ReadRequest(reader)
		if err != nil {
			found.Error = err.Error()
			return found
		}
		body, err := io.ReadAll(head.Body)
		if err != nil {
			found.Error = err.Error()
			return found
		}
		found.Requests = append(found.Requests, request{head.Method, head.RequestURI, body, head.Close})
		if head.Close {
			return found
		}
	}
}

func main() {
	reader, writer := bufio.NewReader(os.Stdin), bufio.NewWriter(os.Stdout)
	encoder := json.NewEncoder(writer)
	for {
		var length uint32
		if err := binary.Read(reader, binary.BigEndian, &length); err == io.EOF {
			return
		} else if err != nil {
			panic(err)
		}
		data := make([]byte, length)
		if _, err := io.ReadFull(reader, data); err != nil {
			panic(err)
		}
		if err := encoder.Encode(read(bufio.NewReader(bytes.NewReader(data)))); err != nil {
			panic(err)
		}
		if err := writer.Flush(); err != nil {
			panic(err)
		}
	}
}
