package docgen

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/f708428e/engine/internal/security/access"
)

// Access returns the page of the table that says who may call what.
func Access() []byte {
	var b bytes.Buffer
	b.WriteString(notice + `# Who may call what

Every call has a rule, and what is not in this table is refused, to everybody. Each of the roles viewer, submit, operate, and admin may
do what the ones before it may; worker is for workers alone. How callers say who they are is in [operations](../operations.md#who-may-do-what).

`)
	parts := []struct {
		title string
		is    func(name string) (shown string, ok bool)
	}{
		{"Services", func(name string) (string, bool) {
			return strings.TrimPrefix(name, "/"), strings.HasPrefix(name, "/")
		}},
		{"Arrow Flight actions", func(name string) (string, bool) { return strings.CutPrefix(name, access.ActionPrefix) }},
		{"Web", func(name string) (string, bool) {
			return name, !strings.HasPrefix(name, "/") && !strings.HasPrefix(name, access.ActionPrefix)
		}},
	}
	for _, part := range parts {
		fmt.Fprintf(&b, "## %s\n\n| call |", part.title)
		for _, role := range access.AllRoles() {
			fmt.Fprintf(&b, " %s |", role)
		}
		b.WriteString(" queues | in the audit log |\n| --- |" + strings.Repeat(" :-: |", len(access.AllRoles())) + " --- | --- |\n")
		for _, rule := range access.Rules() {
			name, ok := part.is(rule.Name)
			if !ok {
				continue
			}
			fmt.Fprintf(&b, "| `%s` |", name)
			for _, role := range access.AllRoles() {
				mark := ""
				if rule.Open || rule.Roles&role != 0 {
					mark = "yes"
				}
				fmt.Fprintf(&b, " %s |", mark)
			}
			scope, kept := string(rule.Scope), "refusals"
			if rule.Open {
				scope = "open: nobody has to say who it is"
			}
			if rule.Audited {
				kept = "all"
			}
			fmt.Fprintf(&b, " %s | %s |\n", scope, kept)
		}
		b.WriteString("\n")
	}
	return append(bytes.TrimRight(b.Bytes(), "\n"), '\n')
}
