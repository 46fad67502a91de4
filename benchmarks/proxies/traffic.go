package main

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"
)

const (
	askEvery   = time.Millisecond
	askedAfter = 5 // answers that must be right once one was
	noAnswer   = "no answer"
)

// writeAll makes changes, `parallel` at a time, and tells when the last was answered.
func writeAll(writes []write, parallel int) (map[string]any, error) {
	began := time.Now()
	queue := make(chan write)
	var done sync.WaitGroup
	var mu sync.Mutex
	var first error
	for range max(parallel, 1) {
		done.Go(func() {
			for one := range queue {
				if err := one.do(); err != nil {
					mu.Lock()
					first = cmp.Or(first, err)
					mu.Unlock()
				}
			}
		})
	}
	for _, one := range writes {
		queue <- one
	}
	close(queue)
	done.Wait()
	now := time.Now()
	return map[string]any{"seconds": now.Sub(began).Seconds(), "last_at": clock(now)}, first
}

// listenAsBackend answers every request at an address with 200, until this program ends.
func listenAsBackend(address string) (map[string]any, error) {
	socket, err := net.Listen("tcp", address)
	if err != nil {
		return nil, err
	}
	answer := func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok\n") }
	go func() { _ = http.Serve(socket, http.HandlerFunc(answer)) }()
	return map[string]any{"address": socket.Addr().String()}, nil
}

// turn is a host, behind an Envoy at a URL, whose answers turn from one code to another.
type turn struct {
	URL, Host     string
	Before, After int // the codes before the change and after it
}

// code is what one request is answered with: an HTTP code, or noAnswer.
func (t turn) code(asker *http.Client) string {
	request, err := http.NewRequest(http.MethodGet, t.URL, nil)
	if err != nil {
		return noAnswer
	}
	request.Host = t.Host
	answer, err := asker.Do(request)
	if err != nil {
		return noAnswer
	}
	defer answer.Body.Close()
	if _, err := io.Copy(io.Discard, answer.Body); err != nil {
		return noAnswer
	}
	return strconv.Itoa(answer.StatusCode)
}

var asker = &http.Client{Transport: &http.Transport{}, Timeout: 60 * time.Second}

// run asks before, while and after a change is made, every millisecond and over one connection, until the new code has
// come, and a few times more. The moments are those at which the API server's answer and the new code had come; what
// else came is counted.
func (t turn) run(change write, timeout time.Duration) (map[string]any, error) {
	before, after := strconv.Itoa(t.Before), strconv.Itoa(t.After)
	if found := t.code(asker); found != before {
		return nil, fmt.Errorf("%s: %s before anything was changed, expected %s", t.Host, found, before)
	}
	type answer struct {
		at  time.Time
		err error
	}
	answered := make(chan answer, 1)
	go func() {
		err := change.do()
		answered <- answer{time.Now(), err}
	}()
	others := map[string]int{}
	deadline := time.Now().Add(timeout)
	var accepted answer
	var turned time.Time
	for turned.IsZero() || accepted.at.IsZero() {
		select {
		case accepted = <-answered:
			if accepted.err != nil {
				return nil, accepted.err
			}
		default:
		}
		found := t.code(asker)
		switch found {
		case after:
			if turned.IsZero() {
				turned = time.Now()
			}
		case before:
			if !turned.IsZero() {
				others[found+" again"]++
			}
		default:
			others[found]++
		}
		if time.Now().After(deadline) {
			return nil, fmt.Errorf("%s: still %s after %s", t.Host, found, timeout)
		}
		time.Sleep(askEvery)
	}
	for range askedAfter {
		if found := t.code(asker); found != after {
			others[found]++
		}
	}
	return map[string]any{
		"answered_at": clock(accepted.at), "turned_at": clock(turned), "others": others,
	}, nil
}

// traffic is what some connections ask of one host without a pause.
type traffic struct {
	stop chan struct{}
	done sync.WaitGroup

	mu    sync.Mutex
	codes map[string]int
}

func startTraffic(to turn, connections int) *traffic {
	t := &traffic{stop: make(chan struct{}), codes: map[string]int{}}
	for range connections {
		one := &http.Client{Transport: &http.Transport{}, Timeout: 60 * time.Second}
		t.done.Go(func() {
			for {
				select {
				case <-t.stop:
					return
				default:
				}
				code := to.code(one)
				t.mu.Lock()
				t.codes[code]++
				t.mu.Unlock()
				time.Sleep(askEvery)
			}
		})
	}
	return t
}

// end stops it and tells how often each code came.
func (t *traffic) end() map[string]any {
	select {
	case <-t.stop:
	default:
		close(t.stop)
	}
	t.done.Wait()
	return map[string]any{"codes": maps.Clone(t.codes)}
}
