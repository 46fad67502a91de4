package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"
)

// watch is a watch of an API server: it keeps every line with the moment at which it had come whole.
type watch struct {
	cancel context.CancelFunc

	mu    sync.Mutex
	bell  chan struct{} // closed when another line is there
	kept  []watchLine
	ended error
}

type watchLine struct {
	At    float64         `json:"at"`
	Event json.RawMessage `json:"event"`
}

// openWatch returns once the server has begun to answer.
func openWatch(url string) (*watch, error) {
	ctx, cancel := context.WithCancel(context.Background())
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		cancel()
		return nil, err
	}
	authorize(request)
	answer, err := (&http.Client{Transport: transport}).Do(request) // without the time limit of other requests
	if err != nil {
		cancel()
		return nil, err
	}
	if answer.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(answer.Body)
		_ = answer.Body.Close()
		cancel()
		return nil, fmt.Errorf("watch %s: %s: %.500s", url, answer.Status, text)
	}
	w := &watch{cancel: cancel, bell: make(chan struct{})}
	go w.read(answer.Body)
	return w, nil
}

func (w *watch) read(body io.ReadCloser) {
	defer body.Close()
	lines := bufio.NewReaderSize(body, 1<<16)
	for {
		line, err := lines.ReadBytes('\n')
		at := time.Now()
		w.mu.Lock()
		if err != nil {
			w.ended = err
		} else {
			w.kept = append(w.kept, watchLine{At: clock(at), Event: line})
		}
		close(w.bell)
		w.bell = make(chan struct{})
		w.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// lines gives all lines after the first `known`, and waits for one if there is none yet, until the time is over.
func (w *watch) lines(known int, timeout time.Duration) (map[string]any, error) {
	deadline := time.After(timeout)
	for {
		w.mu.Lock()
		kept, bell, ended := w.kept, w.bell, w.ended
		w.mu.Unlock()
		if len(kept) > known {
			return map[string]any{"lines": kept[known:]}, nil
		}
		if ended != nil {
			return nil, fmt.Errorf("the watch has ended: %w", ended)
		}
		select {
		case <-bell:
		case <-deadline:
			return map[string]any{"lines": []watchLine{}}, nil
		}
	}
}

func (w *watch) close() { w.cancel() }
