// Go's stdcopy as a program: it demultiplexes one stream after the other, and says what it made of each.
//
// On stdin, each stream is its length as four bytes, big endian, and the bytes. On stdout, each answer is a line of JSON:
// what went to stdout and to stderr, in base64, and the text of the error, which is empty if there was none.
package main

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/json"
	"io"
	"os"

	"github.com/docker/docker/pkg/stdcopy"
)

type answer struct {
	Stdout []byte
	Stderr []byte
	Error  string
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
		stream := make([]byte, length)
		if _, err := io.ReadFull(reader, stream); err != nil {
			panic(err)
		}
		var out, errors bytes.Buffer
		result := answer{}
		if _, err := stdcopy.StdCopy(&out, &errors, bytes.NewReader(stream)); err != nil {
			result.Error = err.Error()
		}
		result.Stdout, result.Stderr = out.Bytes(), errors.Bytes()
		if err := encoder.Encode(result); err != nil {
			panic(err)
		}
		if err := writer.Flush(); err != nil {
			panic(err)
		}
	}
}
