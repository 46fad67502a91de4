package main

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
)

// write is how a change is told to a server over HTTP. In a drive, "{service}" and "{marker}" stand for
// numbers, "{high}" and "{low}" for the two bytes of the service's number (they are part of its addresses).
type write struct {
	Method, URL, Body, Resource string
	ContentType                 string `json:"content_type"`
}

var (
	transport = &http.Transport{MaxIdleConnsPerHost: 256, MaxConnsPerHost: 256}
	client    = &http.Client{Transport: transport, Timeout: 120 * time.Second}
	started   = time.Now()
)

// clock is what moments in answers are given in: milliseconds since this program started.
func clock(at time.Time) float64 { return milliseconds(at.Sub(started)) }

func (w write) do() error {
	request, err := http.NewRequest(w.Method, w.URL, strings.NewReader(w.Body))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", cmp.Or(w.ContentType, "application/json"))
	authorize(request)
	answer, err := client.Do(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		return err
	}
	if answer.StatusCode >= 300 {
		return fmt.Errorf("%s %s: %s: %.500s", w.Method, w.URL, answer.Status, text)
	}
	return nil
}

func (w write) fill(service, marker int) write {
	replace := strings.NewReplacer(
		"{service}", strconv.Itoa(service), "{marker}", strconv.Itoa(marker),
		"{high}", strconv.Itoa(service>>8&255), "{low}", strconv.Itoa(service&255),
	).Replace
	return write{w.Method, replace(w.URL), replace(w.Body), replace(w.Resource), w.ContentType}
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// changeOnce makes one change of an endpoint (`goes` see change) and waits until every observer has it.
func changeOnce(t *tracker, w write, marker, goes int, timeout time.Duration) (map[string]any, error) {
	c := t.expect(w.Resource, marker, goes)
	if err := w.do(); err != nil {
		t.abandon()
		return nil, err
	}
	accepted := time.Since(c.sent)
	select {
	case <-c.done:
	case <-time.After(timeout):
		t.abandon()
		return nil, fmt.Errorf("%s: %d observers had not got change %d after %s", w.Resource, c.missing, marker, timeout)
	}
	return map[string]any{
		"accepted_ms": milliseconds(accepted), "first_ms": milliseconds(c.first.Sub(c.sent)),
		"last_ms": milliseconds(c.last.Sub(c.sent)), "sent_at": clock(c.sent),
	}, nil
}

// drive makes changes at a steady rate, one service after the other, and watches how far the observers lag. A write
// that the server is slow to take does not hold up the next: the clock of each runs from the moment it was due. Only
// writes of one service wait for each other, or an older state could be written last.
func drive(t *tracker, w write, services, firstMarker int, perSecond, seconds float64, drain time.Duration) (map[string]any, error) {
	count := int(perSecond * seconds)
	if count < 1 || services < 1 {
		return nil, errors.New("a drive needs services, a rate and a duration")
	}
	began := time.Now()
	stopSampling := make(chan struct{})
	ages := make(chan []float64, 1)
	go func() { ages <- sample(t, stopSampling) }()
	var writes sync.WaitGroup
	var mu sync.Mutex
	var failures []error
	changes := make([]*change, count)
	written := map[string]chan struct{}{} // by resource: closed when its last write was answered
	for i := range count {
		time.Sleep(time.Until(began.Add(time.Duration(float64(i) / perSecond * float64(time.Second)))))
		filled := w.fill(i%services, firstMarker+i)
		changes[i] = t.expect(filled.Resource, firstMarker+i, 0)
		before, answered := written[filled.Resource], make(chan struct{})
		written[filled.Resource] = answered
		writes.Go(func() {
			defer close(answered)
			if before != nil {
				<-before
			}
			if err := filled.do(); err != nil {
				mu.Lock()
				defer mu.Unlock()
				failures = append(failures, err)
			}
		})
	}
	deadline := time.After(drain)
	delivered := 0
wait:
	for _, c := range changes {
		select {
		case <-c.done:
			delivered++
		case <-deadline:
			break wait
		}
	}
	ended := time.Now()
	close(stopSampling)
	sampled := <-ages
	worst := time.Duration(0)
	for _, c := range changes {
		select {
		case <-c.done:
			worst = max(worst, c.last.Sub(c.sent))
		default:
			worst = max(worst, ended.Sub(c.sent))
		}
	}
	lost := t.abandon()
	if lost == 0 {
		writes.Wait()
	}
	mu.Lock()
	defer mu.Unlock()
	slices.Sort(sampled)
	return map[string]any{
		"changes": count, "undelivered": lost, "failed_writes": len(failures), "first_failure": message(failures),
		"oldest_age_ms": milliseconds(worst), "median_age_ms": sampled[len(sampled)/2],
		"seconds": ended.Sub(began).Seconds(),
	}, nil
}

func message(failures []error) string {
	if len(failures) == 0 {
		return ""
	}
	return failures[0].Error()
}

// sample notes the age of the oldest undelivered change every 20 ms, until told to stop.
func sample(t *tracker, stop chan struct{}) []float64 {
	ages := []float64{0}
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for {
		select {
		case <-stop:
			return ages
		case now := <-ticker.C:
			ages = append(ages, milliseconds(t.oldest(now)))
		}
	}
}

// probe asks Envoy for a path of a host until the Location of its redirect holds the expected text.
type probe struct {
	URL, Host, Expect string
}

var noRedirects = &http.Client{
	Transport:     &http.Transport{},
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	Timeout:       60 * time.Second,
}

func (p probe) answersAsExpected() (bool, error) {
	request, err := http.NewRequest(http.MethodGet, p.URL, nil)
	if err != nil {
		return false, err
	}
	request.Host = p.Host
	answer, err := noRedirects.Do(request)
	if err != nil {
		return false, err
	}
	defer answer.Body.Close()
	if _, err := io.Copy(io.Discard, answer.Body); err != nil {
		return false, err
	}
	return strings.Contains(answer.Header.Get("Location"), p.Expect), nil
}

// until makes a change and asks Envoy again and again, every 200 µs, until it answers by it. A connection that a
// changed listener drained is opened anew; that is part of what a user sees.
func (p probe) until(changed func() error, timeout time.Duration) (map[string]any, error) {
	began := time.Now()
	if err := changed(); err != nil {
		return nil, err
	}
	accepted := time.Since(began)
	var last error
	for time.Since(began) < timeout {
		expected, err := p.answersAsExpected()
		if expected {
			return map[string]any{
				"accepted_ms": milliseconds(accepted), "answered_ms": milliseconds(time.Since(began)),
			}, nil
		}
		last = err
		time.Sleep(200 * time.Microsecond)
	}
	return nil, fmt.Errorf("after %s %s does not redirect to %q (last error: %v)", timeout, p.Host, p.Expect, last)
}

// asFile writes a RouteConfiguration as Envoy reads it from a file, by atomic rename.
func asFile(path string, body []byte) error {
	message, err := proto.Marshal(&discovery.DiscoveryResponse{
		VersionInfo: strconv.FormatInt(time.Now().UnixNano(), 10),
		Resources:   []*anypb.Any{{TypeUrl: typeURLs[rds], Value: body}},
	})
	if err != nil {
		return err
	}
	temporary := filepath.Join(filepath.Dir(path), ".writing")
	if err := os.WriteFile(temporary, message, 0o644); err != nil {
		return err
	}
	return os.Rename(temporary, path)
}

// swapped replaces a text in a message by one of the same length, which leaves the rest of its encoding valid.
func swapped(body []byte, before, after string) ([]byte, error) {
	if len(before) != len(after) {
		return nil, errors.New("before and after differ in length")
	}
	if !bytes.Contains(body, []byte(before)) {
		return nil, fmt.Errorf("the route configuration does not hold %q", before)
	}
	return bytes.ReplaceAll(body, []byte(before), []byte(after)), nil
}
