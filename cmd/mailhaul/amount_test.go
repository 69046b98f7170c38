package main

import (
	"errors"
	"testing"
	"time"

	"mailhaul/internal/location"
)

func TestParseAge(t *testing.T) {
	for s, want := range map[string]time.Duration{"0": 0, "12h": 12 * time.Hour, "30d": 720 * time.Hour, "2w": 336 * time.Hour, "0d": 0} {
		if got, err := parseAge(s); got != want || err != nil {
			t.Errorf("%s: %v, %v", s, got, err)
		}
	}
	for _, s := range []string{"", "d", "3", "-1d", "1.5d", "5m", "99999999999d", "1y"} {
		if _, err := parseAge(s); !errors.Is(err, location.ErrUsage) {
			t.Errorf("%q: %v", s, err)
		}
	}
}

func TestParseSize(t *testing.T) {
	for s, want := range map[string]int64{"1": 1, "500k": 500e3, "25M": 25e6, "2GB": 2e9, "10 MB": 10e6, "7b": 7} {
		if got, err := parseSize(s); got != want || err != nil {
			t.Errorf("%s: %v, %v", s, got, err)
		}
	}
	for _, s := range []string{"", "0", "-1", "M", "1T", "99999999999999999G", "1e9"} {
		if _, err := parseSize(s); !errors.Is(err, location.ErrUsage) {
			t.Errorf("%q: %v", s, err)
		}
	}
}
