// Simulated proxies and the stopwatch of `make bench`.
//
// It reads commands as lines of JSON from its standard input and answers each with one line. It plays many Envoys
// that speak delta ADS ("connect", "reconnect"), stands between a real Envoy and its server ("tap"), makes changes
// over HTTP and tells when the last proxy has each ("change", "drive"), and asks a real Envoy until it answers by a
// changed route ("probe"). For a Kubernetes it asks with a client's credentials ("credentials"), makes many changes at
// once ("writes"), notes when a watch tells of them ("watch"), and sees what an Envoy's clients see meanwhile ("turn",
// "traffic"). One process does all of that, so all times are of one clock. It ends with its input.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"time"
)

// command is one line of input; which fields count depends on Op.
type command struct {
	Op             string
	TimeoutSeconds float64 `json:"timeout_seconds"`

	Address  string
	Count    int
	NodeID   string          `json:"node_id"`
	Metadata json.RawMessage `json:"metadata"`
	Reset    bool

	Write       write
	Marker      int
	Goes        int
	Services    int
	FirstMarker int     `json:"first_marker"`
	PerSecond   float64 `json:"per_second"`
	Seconds     float64

	Probe         probe
	Path          string
	Before, After string

	Credentials credentials
	Writes      []write
	Parallel    int
	Turn        turn
	Known       int
}

func (c *command) timeout() time.Duration {
	return time.Duration(c.TimeoutSeconds * float64(time.Second))
}

type simulator struct {
	tracker *tracker
	fleet   *fleet
	tap     *tap
	watch   *watch
	traffic *traffic
	floor   []byte // the RouteConfiguration that is given to Envoy as a file
}

func (s *simulator) do(c *command) (map[string]any, error) {
	switch c.Op {
	case "connect":
		return nil, s.fleet.connect(c.Address, c.Count, nodeTemplate{id: c.NodeID, metadata: string(c.Metadata)})
	case "reconnect":
		return nil, s.fleet.reconnect(c.Address)
	case "disconnect":
		s.fleet.disconnect()
		return nil, nil
	case "wait_synced":
		return s.fleet.waitSynced(c.timeout())
	case "counters":
		return s.count(&s.fleet.counters, c.Reset), nil
	case "write":
		return nil, c.Write.do()
	case "change", "drive":
		return s.measure(c)
	case "probe":
		if c.Write.URL == "" {
			return c.Probe.until(func() error { return nil }, c.timeout())
		}
		return c.Probe.until(c.Write.do, c.timeout())
	}
	if strings.HasPrefix(c.Op, "tap") || strings.HasPrefix(c.Op, "floor") {
		return s.doTap(c)
	}
	return s.doKubernetes(c)
}

// doKubernetes does what only the rows about a Kubernetes need.
func (s *simulator) doKubernetes(c *command) (map[string]any, error) {
	switch c.Op {
	case "credentials":
		return nil, c.Credentials.use()
	case "writes":
		return writeAll(c.Writes, c.Parallel)
	case "backend":
		return listenAsBackend(c.Address)
	case "turn":
		return c.Turn.run(c.Write, c.timeout())
	case "traffic":
		s.traffic = startTraffic(c.Turn, c.Count)
		return nil, nil
	case "traffic_end":
		if s.traffic == nil {
			return nil, errors.New("there is no traffic")
		}
		return s.traffic.end(), nil
	case "watch":
		if s.watch != nil {
			s.watch.close()
		}
		opened, err := openWatch(c.Address)
		s.watch = opened
		return nil, err
	case "watched":
		if s.watch == nil {
			return nil, errors.New("there is no watch")
		}
		return s.watch.lines(c.Known, c.timeout())
	}
	return nil, fmt.Errorf("unknown op %q", c.Op)
}

func (s *simulator) measure(c *command) (map[string]any, error) {
	if s.tracker.empty() {
		return nil, errors.New("no proxy is connected that could get a change")
	}
	if c.Op == "change" {
		return changeOnce(s.tracker, c.Write, c.Marker, c.Goes, c.timeout())
	}
	return drive(s.tracker, c.Write, c.Services, c.FirstMarker, c.PerSecond, c.Seconds, c.timeout())
}

func (s *simulator) doTap(c *command) (map[string]any, error) {
	switch c.Op {
	case "tap":
		if s.tap != nil {
			s.tap.close()
		}
		opened, err := newTap(s.tracker, c.Address)
		if err != nil {
			return nil, err
		}
		s.tap = opened
		return map[string]any{"address": opened.address}, nil
	case "tap_counters":
		if s.tap == nil {
			return nil, errors.New("there is no tap")
		}
		return s.count(&s.tap.counters, c.Reset), nil
	case "floor_from_tap":
		return s.takeFloor()
	case "floor_write":
		if s.floor == nil {
			return nil, errors.New("no route configuration was captured")
		}
		return nil, asFile(c.Path, s.floor)
	case "floor_change":
		body, err := swapped(s.floor, c.Before, c.After)
		if err != nil {
			return nil, err
		}
		s.floor = body
		return c.Probe.until(func() error { return asFile(c.Path, body) }, c.timeout())
	}
	return nil, fmt.Errorf("unknown op %q", c.Op)
}

// takeFloor keeps the largest RouteConfiguration that the tap saw, for the floor.
func (s *simulator) takeFloor() (map[string]any, error) {
	if s.tap == nil {
		return nil, errors.New("there is no tap")
	}
	s.tap.mu.Lock()
	defer s.tap.mu.Unlock()
	s.floor = nil
	kept := ""
	for name, body := range s.tap.routes {
		if len(body) > len(s.floor) {
			s.floor, kept = body, name
		}
	}
	return map[string]any{"name": kept, "bytes": len(s.floor)}, nil
}

func (s *simulator) count(c *counters, reset bool) map[string]any {
	report := c.report()
	if reset {
		c.reset()
	}
	return report
}

func main() {
	runtime.GOMAXPROCS(1) // the other core is the server's
	t := newTracker()
	s := &simulator{tracker: t, fleet: newFleet(t)}
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 64<<20)
	answers := json.NewEncoder(os.Stdout)
	for lines.Scan() {
		var c command
		answer := map[string]any{}
		err := json.Unmarshal(lines.Bytes(), &c)
		if err == nil {
			answer["result"], err = s.do(&c)
		}
		if err != nil {
			answer = map[string]any{"error": err.Error()}
		}
		if err := answers.Encode(answer); err != nil {
			return
		}
	}
}
