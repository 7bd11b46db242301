package tokenizer_test

import (
	"bufio"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/f708428e/engine/internal/testenv"
	"github.com/f708428e/engine/tokenizer"
)

// oracleCase is one question to testdata/oracle.py and its answer.
type oracleCase struct {
	file    string
	max     int // -1: no limit
	special bool
	text    string

	IDs   []int32 `json:"ids"`
	Types []int32 `json:"types"`
	Error string  `json:"error"`
}

// askOracle has the official library answer all cases, in a process of its own.
func askOracle(t testing.TB, cases []oracleCase) {
	t.Helper()
	python := testenv.Python(t, "tokenizers")
	cmd := exec.CommandContext(t.Context(), python, filepath.Join("testdata", "oracle.py"))
	var in strings.Builder
	for _, c := range cases {
		q := map[string]any{"file": c.file, "max": c.max, "special": c.special, "text": c.text}
		if !utf8.ValidString(c.text) {
			delete(q, "text")
			q["hex"] = hex.EncodeToString([]byte(c.text))
		}
		in.Write(mustJSON(t, q))
		in.WriteByte('\n')
	}
	cmd.Stdin = strings.NewReader(in.String())
	var stderr strings.Builder
	cmd.Stderr = &stderr
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	out := bufio.NewReader(pipe)
	var hello struct{ Version string }
	next := func(into any) {
		line, err := out.ReadBytes('\n')
		if err == nil {
			err = json.Unmarshal(line, into)
		}
		if err != nil {
			rest, _ := io.ReadAll(out)
			_ = cmd.Wait()
			t.Fatalf("oracle: %v; %s%s", err, rest, stderr.String())
		}
	}
	next(&hello)
	for i := range cases {
		next(&cases[i])
	}
	if err := cmd.Wait(); err != nil {
		t.Fatalf("oracle: %v; %s", err, stderr.String())
	}
	t.Logf("tokenizers %s answered %d cases", hello.Version, len(cases))
}

// check compares what we make of the cases with the oracle's answers, which must be there.
func check(t *testing.T, tok *tokenizer.Tokenizer, cases []oracleCase) {
	t.Helper()
	e := tok.NewEncoder()
	wrong := 0
	for _, c := range cases {
		if c.Error != "" {
			t.Fatalf("%q: oracle: %s", c.text, c.Error)
		}
		encode := e.AppendIDs
		if !c.special {
			encode = e.AppendContentIDs
		}
		got, _ := encode(nil, c.text, c.max)
		ok := slices.Equal(got, c.IDs)
		if c.special {
			ok = ok && slices.Equal(e.AppendTypeIDs(nil, len(got)), c.Types)
		}
		if !ok {
			if wrong++; wrong <= 5 {
				t.Errorf("%q (max %d):\n got %d\nwant %d", c.text, c.max, got, c.IDs)
			}
		}
	}
	if wrong > 0 {
		t.Errorf("%d of %d texts differ", wrong, len(cases))
	}
}

// alphabets are what random texts are made of.
var alphabets = []func(r *rand.Rand) string{
	func(r *rand.Rand) string { return string(rune('a' + r.IntN(26))) },
	func(r *rand.Rand) string { return string(rune(r.IntN(128))) },
	func(r *rand.Rand) string {
		return pick(r, " ", "  ", "\t", "\n", "\r\n", "\u00a0", "\u3000", "\u2028", "\u200b", "\x00")
	},
	func(r *rand.Rand) string {
		return pick(r, "the ", "running", "un", "token", "'s", "'ll", "'re ", "12", ".", "!?")
	},
	func(r *rand.Rand) string { return string(rune(0x300 + r.IntN(0x70))) },
	func(r *rand.Rand) string { return string(rune(0x80 + r.IntN(0x700))) },
	func(r *rand.Rand) string { return string(rune(0x900 + r.IntN(0x500))) },
	func(r *rand.Rand) string { return string(rune(0x4E00 + r.IntN(0x100))) },
	func(r *rand.Rand) string { return string(rune(0xAC00 + r.IntN(0x2BA4))) },
	func(r *rand.Rand) string { return string(rune(0x1100 + r.IntN(0x100))) },
	func(r *rand.Rand) string { return string(rune(0x1F300 + r.IntN(0x700))) },
	func(r *rand.Rand) string {
		return pick(r, "\u200d", "\ufe0f", "\U0001F3FD", "🇩", "🇪", "\u094d", "\u0600", "\u0903")
	},
	func(r *rand.Rand) string {
		return pick(r, "\u0915", "\u094d", "\u0937", "\u093f", "\u0301", "\u0323", "\u09cd", "\u0995", "\u200d", "ﬁ")
	},
	func(r *rand.Rand) string { return string(rune(0x1D100 + r.IntN(0x100))) },
	func(r *rand.Rand) string { return string(rune(0xFB00 + r.IntN(0x500))) },
	func(r *rand.Rand) string {
		return pick(r, "<s>", "</s>", "<mask>", "[CLS]", "[SEP]", "[MASK", "<TAG>", " solo ", "<R>", "<unk>", "▁")
	},
	func(r *rand.Rand) string {
		c := rune(r.IntN(0x30000))
		if c >= 0xD800 && c < 0xE000 {
			c = 0xFFFD
		}
		return string(c)
	},
	func(r *rand.Rand) string { return string([]byte{byte(0x80 + r.IntN(0x80))}) }, // not UTF-8
	func(r *rand.Rand) string {
		return pick(r, "\xe2\x82", "\xf0\x9f\x98", "\xed\xa0\x80", "\xc0\xaf", "\xf4\x90\x80\x80", "\xe0\x80")
	},
}

func pick(r *rand.Rand, of ...string) string { return of[r.IntN(len(of))] }

// randomText mixes a few alphabets, so that neighbours often come from the same.
func randomText(r *rand.Rand) string {
	var b strings.Builder
	chosen := []func(*rand.Rand) string{alphabets[r.IntN(len(alphabets))], alphabets[r.IntN(len(alphabets))], alphabets[r.IntN(4)]}
	for range r.IntN(40) {
		b.WriteString(chosen[r.IntN(len(chosen))](r))
	}
	return b.String()
}

// mutate changes a text at a few places.
func mutate(r *rand.Rand, s string) string {
	runes := []rune(s)
	for range 1 + r.IntN(4) {
		if len(runes) == 0 {
			break
		}
		i := r.IntN(len(runes))
		switch r.IntN(4) {
		case 0:
			runes = slices.Delete(runes, i, i+1)
		case 1:
			runes = slices.Insert(runes, i, []rune(alphabets[r.IntN(len(alphabets)-2)](r))...)
		case 2:
			j := r.IntN(len(runes))
			runes[i], runes[j] = runes[j], runes[i]
		case 3:
			j := min(len(runes), i+1+r.IntN(8))
			runes = slices.Insert(runes, i, slices.Clone(runes[i:j])...)
		}
	}
	return string(runes)
}

// many returns a number of cases: few, ten times as many in the full tests, and fifty times in `make soak`.
func many(n int) int {
	switch os.Getenv("ENGINE_TEST") {
	case "full":
		return 10 * n
	case "soak":
		return 50 * n
	default:
		return n
	}
}

func newRand(t *testing.T) *rand.Rand {
	t.Helper()
	seed := rand.Uint64()
	if s := os.Getenv("ENGINE_SEED"); s != "" {
		if _, err := fmt.Sscan(s, &seed); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("ENGINE_SEED=%d", seed)
	return rand.New(rand.NewPCG(seed, 1))
}

func TestVariantsAgainstTheOfficialLibrary(t *testing.T) {
	var golden struct{ Texts []string }
	readJSON(t, filepath.Join("testdata", "golden.json"), &golden)
	r := newRand(t)
	files := variants(t)
	dir := t.TempDir()
	names := slices.Sorted(maps.Keys(files))
	n := many(150)
	var all []oracleCase
	for i, name := range names {
		path := filepath.Join(dir, fmt.Sprint(i, ".json"))
		if err := os.WriteFile(path, files[name], 0o600); err != nil {
			t.Fatal(err)
		}
		for range n {
			c := oracleCase{file: path, max: -1, special: r.IntN(4) > 0, text: randomText(r)}
			if r.IntN(2) == 0 {
				c.text = mutate(r, golden.Texts[r.IntN(len(golden.Texts))])
			}
			if r.IntN(4) == 0 {
				c.max = 3 + r.IntN(12)
			}
			all = append(all, c)
		}
	}
	askOracle(t, all)
	for i, name := range names {
		t.Run(name, func(t *testing.T) { check(t, parse(t, files[name]), all[i*n:(i+1)*n]) })
	}
}

func TestMiniLMAgainstTheOfficialLibrary(t *testing.T) {
	path := miniLMPath(t)
	r := newRand(t)
	texts := agNews(t)
	var all []oracleCase
	for i := range many(3000) {
		c := oracleCase{file: path, max: -1, special: true}
		switch i % 3 {
		case 0:
			c.text = texts[i%len(texts)]
		case 1:
			c.text = mutate(r, texts[r.IntN(len(texts))])
		case 2:
			c.text = randomText(r)
		}
		if r.IntN(4) == 0 {
			c.max = 2 + 1 + r.IntN(64)
		}
		all = append(all, c)
	}
	askOracle(t, all)
	check(t, openMiniLM(t), all)
}
