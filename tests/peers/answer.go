// What the programs of this folder share: how they are asked.
//
// On stdin, each piece of data is its length as four bytes, big endian, and the bytes. On stdout, each answer is a line of
// JSON, with bytes in base64.
package main

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"io"
	"os"
)

func answerEach(answer func([]byte) any) {
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
		if err := encoder.Encode(answer(data)); err != nil {
			panic(err)
		}
		if err := writer.Flush(); err != nil {
			panic(err)
		}
	}
}
