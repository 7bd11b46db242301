package text

const (
	microsPerSecond = 1_000_000
	secondsPerDay   = 86_400
)

// ParseDate is the day, counted from 1970-01-01, that a text such as 2006-01-02 stands for. ok is false for other texts.
func ParseDate(b []byte) (days int32, ok bool) {
	if len(b) != 10 || b[4] != '-' || b[7] != '-' {
		return 0, false
	}
	century, ok1 := twoDigits(b[0:])
	year, ok2 := twoDigits(b[2:])
	month, ok3 := twoDigits(b[5:])
	day, ok4 := twoDigits(b[8:])
	if !ok1 || !ok2 || !ok3 || !ok4 {
		return 0, false
	}
	year += 100 * century
	if year < 1 || month < 1 || month > 12 || day < 1 || day > daysIn(year, month) {
		return 0, false
	}
	// Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms": years begin in March, so that the leap day comes last.
	if month <= 2 {
		year--
		month += 12
	}
	return int32(365*year + year/4 - year/100 + year/400 + (153*(month-3)+2)/5 + day - 1 - 719468), true
}

func daysIn(year, month int) int {
	switch month {
	case 2:
		if year%4 == 0 && (year%100 != 0 || year%400 == 0) {
			return 29
		}
		return 28
	case 4, 6, 9, 11:
		return 30
	}
	return 31
}

func twoDigits(b []byte) (int, bool) {
	tens, ones := b[0]-'0', b[1]-'0'
	return int(tens)*10 + int(ones), tens <= 9 && ones <= 9
}

// ParseTimestamp is the number of microseconds since 1970-01-01 UTC that a text such as 2006-01-02T15:04:05.000000Z stands for: a blank
// may stand for the T; the fraction, or the whole time of day, may be missing; instead of Z there may be +hh:mm or nothing. ok is false
// for other texts, and for a fraction finer than a microsecond.
func ParseTimestamp(b []byte) (micros int64, ok bool) {
	if len(b) < 10 {
		return 0, false
	}
	days, ok := ParseDate(b[:10])
	if !ok {
		return 0, false
	}
	micros = int64(days) * secondsPerDay * microsPerSecond
	if b = b[10:]; len(b) == 0 {
		return micros, true
	}
	// T15:04:05
	if len(b) < 9 || (b[0] != 'T' && b[0] != ' ') || b[3] != ':' || b[6] != ':' {
		return 0, false
	}
	hour, ok1 := twoDigits(b[1:])
	minute, ok2 := twoDigits(b[4:])
	second, ok3 := twoDigits(b[7:])
	if !ok1 || !ok2 || !ok3 || hour > 23 || minute > 59 || second > 59 {
		return 0, false
	}
	micros += int64(hour*3600+minute*60+second) * microsPerSecond
	b = b[9:]
	if len(b) > 0 && b[0] == '.' {
		b = b[1:]
		unit := int64(microsPerSecond)
		begin := len(b)
		for ; len(b) > 0 && b[0]-'0' <= 9; b = b[1:] {
			unit /= 10
			if unit == 0 && b[0] != '0' {
				return 0, false
			}
			micros += unit * int64(b[0]-'0')
		}
		if len(b) == begin {
			return 0, false
		}
	}
	switch {
	case len(b) == 0 || len(b) == 1 && b[0] == 'Z':
		return micros, true
	case len(b) != 6 || (b[0] != '+' && b[0] != '-') || b[3] != ':':
		return 0, false
	}
	hour, ok1 = twoDigits(b[1:])
	minute, ok2 = twoDigits(b[4:])
	if !ok1 || !ok2 || hour > 23 || minute > 59 {
		return 0, false
	}
	east := int64(hour*3600+minute*60) * microsPerSecond
	if b[0] == '-' {
		east = -east
	}
	return micros - east, true
}
