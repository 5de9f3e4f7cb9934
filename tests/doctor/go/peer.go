// Real net/http, for the doctor to look at. Go's scheduler leaves no loop undriven, so its scenes are a
// server that owes the answer, a body nobody reads, and two healthy ones.
//
// usage: peer CASE PORT. Prints "ready PID" when the scene stands.
package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"time"
)

func ready() {
	fmt.Printf("ready %d\n", os.Getpid())
}

func get(url string) {
	response, err := http.Get(url)
	if err != nil {
		panic(err)
	}
	io.Copy(io.Discard, response.Body)
	response.Body.Close()
}

func main() {
	url := "http://127.0.0.1:" + os.Args[2] + "/"
	switch os.Args[1] {
	case "one-request":
		go get(url)
		time.Sleep(200 * time.Millisecond)
	case "body-unread":
		response, err := http.Get(url)
		if err != nil {
			panic(err)
		}
		io.CopyN(io.Discard, response.Body, 100000)
		time.Sleep(500 * time.Millisecond)
		defer response.Body.Close()
	case "busy":
		for i := 0; i < 4; i++ {
			go func() {
				for {
					get(url)
					time.Sleep(time.Millisecond)
				}
			}()
		}
	case "idle":
		for i := 0; i < 3; i++ {
			get(url)
		}
		time.Sleep(200 * time.Millisecond)
	default:
		panic("no case " + os.Args[1])
	}
	ready()
	time.Sleep(time.Hour)
}
