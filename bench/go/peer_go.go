// peer_go: Go's net/http, C goroutines at a time. The contract is that of programs/common.h: closed loop
// without --rate; with it, latencies count from the moment a request was due.
package main

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"flag"
	"fmt"
	"io"
	"math/bits"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"
)

var (
	port        = flag.Int("port", 0, "of the bench server")
	path        = flag.String("path", "/small", "what to ask for")
	connections = flag.Int("connections", 1, "requests in flight")
	requests    = flag.Int64("requests", 1, "in all")
	warmUp      = flag.Int64("warm-up", 0, "how many of them are not in the window")
	rate        = flag.Int64("rate", 0, "requests a second; 0: closed loop")
	upload      = flag.Int("upload", 0, "bytes to send with each")
	caFile      = flag.String("tls", "", "https, and whom to trust")
	http2       = flag.Int("http", 1, "1 or 2: HTTP/2, for https only")
)

const bucketCount = 128 * 40

func histogramIndex(ns uint64) int {
	if ns < 256 {
		return int(ns)
	}
	shift := 56 - bits.LeadingZeros64(ns)
	index := shift*128 + int(ns>>uint(shift))
	if index >= bucketCount {
		return bucketCount - 1
	}
	return index
}

// ticks makes the timer of --rate: each read says how many more requests are due.
func ticks(interval time.Duration) *os.File {
	const clockMonotonic, nonblock = 1, syscall.O_NONBLOCK
	fd, _, errno := syscall.Syscall(syscall.SYS_TIMERFD_CREATE, clockMonotonic, nonblock, 0)
	if errno != 0 {
		fail(errno)
	}
	every := syscall.NsecToTimespec(int64(interval))
	spec := [2]syscall.Timespec{every, every}
	_, _, errno = syscall.Syscall6(syscall.SYS_TIMERFD_SETTIME, fd, 0, uintptr(unsafe.Pointer(&spec)), 0, 0, 0)
	if errno != 0 {
		fail(errno)
	}
	return os.NewFile(fd, "timer")
}

// usage is what the process had used at one moment.
type usage struct{ userUs, systemUs, atNs int64 }

var startedAt = time.Now()

func takeUsage() usage {
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		fail(err)
	}
	return usage{used.Utime.Nano() / 1000, used.Stime.Nano() / 1000, time.Since(startedAt).Nanoseconds()}
}

func fail(what interface{}) {
	fmt.Fprintln(os.Stderr, "bench:", what)
	os.Exit(1)
}

// exchange sends one request and returns the size of the answer's body.
func exchange(client *http.Client, url string, payload []byte) int64 {
	method, body := "GET", io.Reader(nil)
	if len(payload) > 0 {
		method, body = "PUT", bytes.NewReader(payload)
	}
	request, err := http.NewRequest(method, url, body)
	if err != nil {
		fail(err)
	}
	response, err := client.Do(request)
	if err != nil {
		fail(err)
	}
	if response.StatusCode != 200 {
		fail(response.Status)
	}
	size, err := io.Copy(io.Discard, response.Body)
	if err != nil {
		fail(err)
	}
	response.Body.Close()
	return size
}

func runClosed(one func()) {
	var started int64
	var all sync.WaitGroup
	for i := 0; i < *connections; i++ {
		all.Add(1)
		go func() {
			for atomic.AddInt64(&started, 1) <= *requests {
				one()
			}
			all.Done()
		}()
	}
	all.Wait()
}

func runOpen(one func()) []uint64 {
	interval := time.Second / time.Duration(*rate)
	due := make(chan time.Time, *requests)
	histogram := make([]uint64, bucketCount)
	var all sync.WaitGroup
	for i := 0; i < *connections; i++ {
		all.Add(1)
		go func() {
			for at := range due {
				one()
				if late := time.Since(at); late > 0 {
					atomic.AddUint64(&histogram[histogramIndex(uint64(late))], 1)
				} else {
					atomic.AddUint64(&histogram[0], 1)
				}
			}
			all.Done()
		}()
	}
	timer := ticks(interval)
	at := time.Now().Add(interval)
	for sent := int64(0); sent < *requests; {
		var count [8]byte
		if _, err := timer.Read(count[:]); err != nil {
			fail(err)
		}
		for n := *(*int64)(unsafe.Pointer(&count)); n > 0 && sent < *requests; n-- {
			due <- at
			at = at.Add(interval)
			sent++
		}
	}
	close(due)
	all.Wait()
	return histogram
}

// tlsConfig trusts the one that is told, and resumes sessions.
func tlsConfig() *tls.Config {
	pem, err := os.ReadFile(*caFile)
	if err != nil {
		fail(err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		fail("no certificate in " + *caFile)
	}
	return &tls.Config{RootCAs: roots, ClientSessionCache: tls.NewLRUClientSessionCache(0)}
}

func main() {
	flag.Parse()
	transport := &http.Transport{
		MaxIdleConns:        *connections,
		MaxIdleConnsPerHost: *connections,
		ReadBufferSize:      64 << 10,
		WriteBufferSize:     32 << 10,
		DisableCompression:  true,
	}
	if *upload == 0 { // small messages: the sizes that Go chooses by itself
		transport.WriteBufferSize = 0
		if !strings.HasPrefix(*path, "/bytes/") {
			transport.ReadBufferSize = 0
		}
	}
	scheme := "http"
	if *caFile != "" {
		scheme = "https"
		transport.TLSClientConfig = tlsConfig()
		transport.ForceAttemptHTTP2 = *http2 == 2
	}
	client := &http.Client{Transport: transport}
	url := fmt.Sprintf("%s://127.0.0.1:%d%s", scheme, *port, *path)
	payload := make([]byte, *upload)
	var total, completed int64
	begin, end := takeUsage(), usage{}
	one := func() {
		atomic.AddInt64(&total, exchange(client, url, payload))
		switch atomic.AddInt64(&completed, 1) {
		case *warmUp:
			begin = takeUsage()
		case *requests:
			end = takeUsage()
		}
	}
	histogram := ""
	if *rate == 0 {
		runClosed(one)
	} else {
		var buckets []string
		for index, count := range runOpen(one) {
			if count > 0 {
				buckets = append(buckets, fmt.Sprintf("\"%d\": %d", index, count))
			}
		}
		histogram = fmt.Sprintf(", \"histogram\": {%s}", strings.Join(buckets, ", "))
	}
	window := fmt.Sprintf("{\"requests\": %d, \"user_us\": %d, \"system_us\": %d, \"wall_ns\": %d}", completed-*warmUp,
		end.userUs-begin.userUs, end.systemUs-begin.systemUs, end.atNs-begin.atNs)
	fmt.Printf("{\"requests\": %d, \"bytes\": %d, \"window\": %s%s}\n", completed, total, window, histogram)
}
