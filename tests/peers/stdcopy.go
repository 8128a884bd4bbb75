// Go's stdcopy as a program: it demultiplexes one stream after the other, and says what it made of each.
//
// It answers with what went to stdout and to stderr, and the text of the error, which is empty if there was none.
package main

import (
	"bytes"

	"github.com/docker/docker/pkg/stdcopy"
)

type demultiplexed struct {
	Stdout []byte
	Stderr []byte
	Error  string
}

func main() {
	answerEach(func(stream []byte) any {
		var out, errors bytes.Buffer
		result := demultiplexed{}
		if _, err := stdcopy.StdCopy(&out, &errors, bytes.NewReader(stream)); err != nil {
			result.Error = err.Error()
		}
		result.Stdout, result.Stderr = out.Bytes(), errors.Bytes()
		return result
	})
}
