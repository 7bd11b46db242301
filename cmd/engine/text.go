package main

import (
	"fmt"
	"math"
	"strconv"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"
)

// count writes a number with commas between thousands.
func count[N int | int32 | int64 | uint64](n N) string {
	digits := strconv.FormatInt(int64(n), 10)
	start := 0
	if digits[0] == '-' {
		start = 1
	}
	for i := len(digits) - 3; i > start; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}

// plural writes a number and the noun in its form.
func plural[N int | int32 | int64 | uint64](n N, noun string) string {
	switch {
	case n == 1:
		return "1 " + noun
	case noun[len(noun)-1] == 'h':
		return count(n) + " " + noun + "es"
	default:
		return count(n) + " " + noun + "s"
	}
}

// span writes a duration as people say it: "0.42s", "12.3s", "3m05s", "2h14m", "3d04h".
func span(d time.Duration) string {
	switch {
	case d < 0:
		return "0s"
	case d < 10*time.Second:
		return fmt.Sprintf("%.2fs", math.Floor(d.Seconds()*100)/100)
	case d < time.Minute:
		return fmt.Sprintf("%.1fs", math.Floor(d.Seconds()*10)/10)
	case d < time.Hour:
		return fmt.Sprintf("%dm%02ds", d/time.Minute, d%time.Minute/time.Second)
	case d < 24*time.Hour:
		return fmt.Sprintf("%dh%02dm", d/time.Hour, d%time.Hour/time.Minute)
	default:
		return fmt.Sprintf("%dd%02dh", d/(24*time.Hour), d%(24*time.Hour)/time.Hour)
	}
}

// when writes a time in UTC to the second; a time that is not set is empty.
func when(t *timestamppb.Timestamp) string {
	if t == nil {
		return ""
	}
	return t.AsTime().Format("2006-01-02 15:04:05Z")
}

// number writes an amount without needless digits.
func number(v float64) string { return strconv.FormatFloat(v, 'f', -1, 64) }
