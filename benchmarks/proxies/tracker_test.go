package main

import (
	"testing"
	"time"
)

func arrived(c *change) bool {
	select {
	case <-c.done:
		return true
	default:
		return false
	}
}

func TestAChangeIsOverWhenTheLastObserverHasIt(t *testing.T) {
	book := newTracker()
	book.join(1)
	book.join(2)
	c := book.expect("a", 10, 0)
	first, last := c.sent.Add(time.Second), c.sent.Add(2*time.Second)
	book.saw(1, []byte("a"), 10, first)
	if arrived(c) {
		t.Error("over before the second observer has it")
	}
	book.saw(2, []byte("a"), 10, last)
	if !arrived(c) || c.first != first || c.last != last {
		t.Errorf("%t %s %s", arrived(c), c.first, c.last)
	}
}

func TestALaterChangeOfTheSameResourceBringsTheEarlierOnes(t *testing.T) {
	book := newTracker()
	book.join(1)
	early, late, other := book.expect("a", 10, 0), book.expect("a", 11, 0), book.expect("b", 12, 0)
	book.saw(1, []byte("a"), 11, time.Now())
	if !arrived(early) || !arrived(late) || arrived(other) {
		t.Error(arrived(early), arrived(late), arrived(other))
	}
}

func TestAnOldMarkerBringsNothing(t *testing.T) {
	book := newTracker()
	book.join(1)
	c := book.expect("a", 10, 0)
	book.saw(1, []byte("a"), 9, time.Now())
	if arrived(c) {
		t.Error("an older marker counted")
	}
}

func TestAnEndpointThatGoesIsGoneWhenTheHighestPortIsBelowIts(t *testing.T) {
	book := newTracker()
	book.join(1)
	book.join(2)
	came := book.expect("a", 10, 0)
	book.saw(1, []byte("a"), 10, time.Now())
	book.saw(2, []byte("a"), 10, time.Now())
	gone := book.expect("a", 11, 10)
	book.saw(1, []byte("a"), 10, time.Now())
	book.saw(2, []byte("a"), 9, time.Now())
	if !arrived(came) || arrived(gone) {
		t.Error(arrived(came), arrived(gone))
	}
	book.saw(1, []byte("a"), 0, time.Now())
	if !arrived(gone) {
		t.Error("not over though nobody has the endpoint")
	}
	back := book.expect("a", 12, 0)
	book.saw(1, []byte("a"), 12, time.Now())
	book.leave(2)
	if !arrived(back) {
		t.Error("what comes after an endpoint went is not seen")
	}
}

func TestChangesDoNotWaitForAnObserverThatLeft(t *testing.T) {
	book := newTracker()
	book.join(1)
	book.join(2)
	c := book.expect("a", 10, 0)
	book.saw(1, []byte("a"), 10, time.Now())
	book.leave(2)
	if !arrived(c) {
		t.Error("waits for an observer that is gone")
	}
}

func TestTheOldestAgeIsThatOfTheOldestOpenChange(t *testing.T) {
	book := newTracker()
	book.join(1)
	old := book.expect("a", 10, 0)
	old.sent = old.sent.Add(-time.Minute)
	book.expect("b", 11, 0)
	if age := book.oldest(old.sent.Add(time.Hour)); age != time.Hour {
		t.Error(age)
	}
	if lost := book.abandon(); lost != 2 {
		t.Error(lost)
	}
}
