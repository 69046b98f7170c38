package main

import (
	"strconv"
	"strings"
	"time"

	"mailhaul/internal/location"
)

// parseAge reads how long to wait: 30d, 2w, 12h, or 0 for not at all.
func parseAge(s string) (time.Duration, error) {
	wrong := location.Wrong("write 30d, 2w, 12h, or 0 for at once", "--delete-after %s", s)
	if s == "0" {
		return 0, nil
	}
	units := map[byte]time.Duration{'h': time.Hour, 'd': 24 * time.Hour, 'w': 7 * 24 * time.Hour}
	if s == "" || units[s[len(s)-1]] == 0 {
		return 0, wrong
	}
	n, err := strconv.ParseUint(s[:len(s)-1], 10, 32)
	if err != nil || n > 100*366*24 {
		return 0, wrong
	}
	return time.Duration(n) * units[s[len(s)-1]], nil
}

// parseSize reads a number of bytes: 500000, 500k, 25M, 2G; a B may follow.
func parseSize(s string) (int64, error) {
	number := strings.TrimSuffix(strings.ToUpper(s), "B")
	factor := int64(1)
	for unit, f := range map[string]int64{"K": 1e3, "M": 1e6, "G": 1e9} {
		if rest, ok := strings.CutSuffix(number, unit); ok {
			number, factor = rest, f
			break
		}
	}
	n, err := strconv.ParseInt(strings.TrimSpace(number), 10, 64)
	if err != nil || n <= 0 || n > 1<<62/factor {
		return 0, location.Wrong("write a number of bytes, as in 500k, 25M or 2G", "--max-size %s", s)
	}
	return n * factor, nil
}
