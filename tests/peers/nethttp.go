// Go's net/http as a program: it reads the requests in one piece of bytes after the other, as dockerd's server does.
//
// It answers with the requests, and the text of the error that ended them, which is empty if all bytes were read.
package main

import (
	"bufio"
	"bytes"
	"io"
	"net/http"
)

type request struct {
	Method string
	Target string
	Body   []byte
	Close  bool
}

type requests struct {
	Requests []request
	Error    string
}

func read(reader *bufio.Reader) requests {
	found := requests{Requests: []request{}}
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
	answerEach(func(data []byte) any { return read(bufio.NewReader(bytes.NewReader(data))) })
}
