package lint

import (
	"fmt"
	"go/ast"
	"go/token"
	"io/fs"
	"net/url"
	"path"
	"regexp"
	"strings"
	"testing"
)

// maxLines is the length at which a file is to be split.
const maxLines = 800

// check is one rule of the house: its name, its reason, and what finds its violations.
type check struct {
	name, why string
	find      func(m *module, report func(where, what string))
}

var checks = []check{
	{
		name: "package comments",
		why:  "whoever opens a package learns first what it is, who owns what, and what is safe",
		find: packageComments,
	},
	{
		name: "exported names",
		why:  "what a name promises stands at the name: ownership, concurrency, units, the meaning of zero",
		find: exportedNames,
	},
	{
		name: "sleeps",
		why:  "a sleep is too long for a fast machine and too short for a slow one, and cannot be stopped: wait on the thing, or on a timer beside ctx.Done()",
		find: sleeps,
	},
	{
		name: "goroutines",
		why:  "each goroutine has an owner that waits for its end, else shutdown leaks it: start it with internal/lifecycle, or say who ends it after `// lifecycle:`",
		find: goroutines,
	},
	{
		name: "pure packages",
		why:  "a decision takes the time as an argument and leaves concurrency to its caller, so that it can be replayed",
		find: pure,
	},
	{
		name: "unfinished panics",
		why:  "a panic is for a broken invariant; work that is not done returns an error that says so",
		find: panics,
	},
	{
		name: "file length",
		why:  "a file has one main type and fits in a reader's head; split by topic",
		find: lengths,
	},
	{
		name: "links",
		why:  "a link that leads nowhere costs a reader more than no link",
		find: links,
	},
}

func TestHouse(t *testing.T) {
	m := root(t)
	for _, c := range checks {
		t.Run(c.name, func(t *testing.T) {
			c.find(m, func(where, what string) { t.Errorf("%s: %s: %s", where, what, c.why) })
		})
	}
}

// each calls f for all sources that people wrote.
func (m *module) each(f func(dir string, s *source)) {
	for _, dir := range m.dirs() {
		for _, s := range m.packages[dir].sources {
			if !s.generated {
				f(dir, s)
			}
		}
	}
}

func packageComments(m *module, report func(where, what string)) {
	for _, dir := range m.dirs() {
		documented, code := false, false
		for _, s := range m.packages[dir].sources {
			if s.test || s.generated {
				continue
			}
			code = true
			documented = documented || s.syntax.Doc != nil && strings.TrimSpace(s.syntax.Doc.Text()) != ""
		}
		if code && !documented {
			report(dir, "no package comment")
		}
	}
}

func exportedNames(m *module, report func(where, what string)) {
	m.each(func(_ string, s *source) {
		if s.test || s.main {
			return
		}
		for _, d := range s.syntax.Decls {
			switch d := d.(type) {
			case *ast.FuncDecl:
				if d.Name.IsExported() && d.Doc == nil && (d.Recv == nil || exportedReceiver(d.Recv)) {
					report(m.at(d.Pos()), d.Name.Name+" has no comment")
				}
			case *ast.GenDecl:
				for _, spec := range d.Specs {
					for _, name := range undocumented(d, spec) {
						report(m.at(name.Pos()), name.Name+" has no comment")
					}
				}
			}
		}
	})
}

// undocumented returns the exported names of a declaration without a comment. One comment on a group of constants or
// variables does for all.
func undocumented(d *ast.GenDecl, spec ast.Spec) (names []*ast.Ident) {
	switch spec := spec.(type) {
	case *ast.TypeSpec:
		if spec.Name.IsExported() && spec.Doc == nil && spec.Comment == nil && (d.Doc == nil || d.Lparen.IsValid()) {
			names = append(names, spec.Name)
		}
	case *ast.ValueSpec:
		for _, name := range spec.Names {
			if name.IsExported() && spec.Doc == nil && spec.Comment == nil && d.Doc == nil {
				names = append(names, name)
			}
		}
	}
	return names
}

func exportedReceiver(recv *ast.FieldList) bool {
	t := recv.List[0].Type
	for {
		switch x := t.(type) {
		case *ast.StarExpr:
			t = x.X
		case *ast.IndexExpr:
			t = x.X
		case *ast.IndexListExpr:
			t = x.X
		case *ast.Ident:
			return x.IsExported()
		default:
			return false
		}
	}
}

// called returns "path.Name" if the call is of a function of an imported package.
func (s *source) called(call *ast.CallExpr) string {
	selector, ok := call.Fun.(*ast.SelectorExpr)
	if !ok {
		return ""
	}
	x, ok := selector.X.(*ast.Ident)
	if !ok || s.names[x.Name] == "" {
		return ""
	}
	return s.names[x.Name] + "." + selector.Sel.Name
}

func sleeps(m *module, report func(where, what string)) {
	m.each(func(_ string, s *source) {
		comments := m.comments(s)
		ast.Inspect(s.syntax, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok || s.called(call) != "time.Sleep" {
				return true
			}
			switch {
			case !s.test:
				report(m.at(call.Pos()), "time.Sleep")
			case !says(comments[m.files.Position(call.Pos()).Line], "sleep:"):
				report(m.at(call.Pos()), "time.Sleep in a test without its reason after `// sleep:` on the same line")
			}
			return true
		})
	})
}

// says reports whether a comment has the word and something after it.
func says(comment, word string) bool {
	_, reason, ok := strings.Cut(comment, word)
	return ok && strings.TrimSpace(reason) != ""
}

func goroutines(m *module, report func(where, what string)) {
	m.each(func(dir string, s *source) {
		if s.test || match("internal/lifecycle/...", dir) {
			return
		}
		comments := m.comments(s)
		ast.Inspect(s.syntax, func(n ast.Node) bool {
			if g, ok := n.(*ast.GoStmt); ok {
				line := m.files.Position(g.Pos()).Line
				if !says(comments[line], "lifecycle:") && !m.above(comments, line, "lifecycle:") {
					report(m.at(g.Pos()), "go statement")
				}
			}
			return true
		})
	})
}

// above reports whether the comment lines right above a line say the word.
func (m *module) above(comments map[int]string, line int, word string) bool {
	for line--; comments[line] != ""; line-- {
		if says(comments[line], word) {
			return true
		}
	}
	return false
}

// purePackages decide and do nothing else.
var purePackages = []string{".", "scheduler/..."}

func pure(m *module, report func(where, what string)) {
	impure := map[string]bool{
		"time.Now": true, "time.Since": true, "time.Until": true, "time.After": true, "time.AfterFunc": true, "time.Tick": true,
		"time.NewTimer": true, "time.NewTicker": true, "time.Sleep": true,
	}
	m.each(func(dir string, s *source) {
		if s.test || !matchAny(purePackages, dir) {
			return
		}
		ast.Inspect(s.syntax, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.GoStmt:
				report(m.at(n.Pos()), "go statement")
			case *ast.SelectorExpr:
				if x, ok := n.X.(*ast.Ident); ok {
					if name := s.names[x.Name] + "." + n.Sel.Name; impure[name] {
						report(m.at(n.Pos()), name)
					}
				}
			}
			return true
		})
	})
}

func panics(m *module, report func(where, what string)) {
	m.each(func(_ string, s *source) {
		ast.Inspect(s.syntax, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			if name, ok := call.Fun.(*ast.Ident); !ok || name.Name != "panic" {
				return true
			}
			ast.Inspect(call, func(n ast.Node) bool {
				if text, ok := n.(*ast.BasicLit); ok && text.Kind == token.STRING {
					for _, word := range []string{"todo", "fixme", "not implemented", "unimplemented"} {
						if strings.Contains(strings.ToLower(text.Value), word) {
							report(m.at(call.Pos()), "panic("+text.Value+")")
						}
					}
				}
				return true
			})
			return true
		})
	})
}

func lengths(m *module, report func(where, what string)) {
	m.each(func(_ string, s *source) {
		if s.lines > maxLines {
			report(s.path, fmt.Sprintf("%d lines, at most %d", s.lines, maxLines))
		}
	})
}

var (
	link = regexp.MustCompile(`\]\(<?([^)\s>]+)>?(?:\s+"[^"]*")?\)`)
	code = regexp.MustCompile("(?s)```.*?```|`[^`\n]*`")
)

// links looks at documents alone: a link in a comment is the browser's.
func links(m *module, report func(where, what string)) {
	for _, doc := range m.markdown {
		text, err := fs.ReadFile(m.fsys, doc)
		if err != nil {
			report(doc, err.Error())
			continue
		}
		// Code is blanked line by line, so that the lines keep their numbers.
		plain := code.ReplaceAllFunc(text, func(b []byte) []byte {
			return []byte(strings.Repeat("\n", strings.Count(string(b), "\n")))
		})
		for number, line := range strings.Split(string(plain), "\n") {
			for _, found := range link.FindAllStringSubmatch(line, -1) {
				target, err := url.Parse(found[1])
				if err != nil || target.Scheme != "" || target.Host != "" || target.Path == "" {
					continue
				}
				file := path.Join(path.Dir(doc), target.Path)
				if strings.HasPrefix(target.Path, "/") {
					file = path.Clean(strings.TrimPrefix(target.Path, "/"))
				}
				if _, err := fs.Stat(m.fsys, file); err != nil {
					report(fmt.Sprintf("%s:%d", doc, number+1), "the link "+found[1]+" leads to no file")
				}
			}
		}
	}
}
