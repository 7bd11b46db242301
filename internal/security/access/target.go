package access

import (
	"fmt"
	"strings"

	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// target is what a call is about, in words.
type target string

// targetOf finds out what a request is about: the ids and names in it that say so, and nothing else of it.
func targetOf(request any) string {
	if t, ok := request.(target); ok {
		return string(t)
	}
	var parts []string
	add := func(what, value string) {
		if value != "" {
			parts = append(parts, what+" "+value)
		}
	}
	if r, ok := request.(interface{ GetJobId() string }); ok {
		add("job", r.GetJobId())
	}
	if r, ok := request.(interface{ GetSubmissionId() string }); ok {
		add("submission", r.GetSubmissionId())
	}
	if r, ok := request.(interface{ GetSpec() *enginev1.JobSpec }); ok {
		add("name", r.GetSpec().GetName())
		add("queue", r.GetSpec().GetQueue())
	}
	if r, ok := request.(interface{ GetNodeId() string }); ok {
		add("node", r.GetNodeId())
	}
	if r, ok := request.(interface{ GetHeadId() string }); ok {
		add("head", r.GetHeadId())
	}
	if r, ok := request.(interface{ GetToken() string }); ok {
		add("token", tokenName(r.GetToken()))
	}
	if r, ok := request.(interface{ GetName() string }); ok {
		add("name", r.GetName())
	}
	if r, ok := request.(interface{ GetRole() string }); ok {
		add("role", r.GetRole())
	}
	if r, ok := request.(interface{ GetQueue() string }); ok {
		add("queue", r.GetQueue())
	}
	if r, ok := request.(interface{ GetQueue() *enginev1.Queue }); ok {
		add("queue", r.GetQueue().GetName())
	}
	if r, ok := request.(interface{ GetSessionId() string }); ok {
		add("session", r.GetSessionId())
	}
	if r, ok := request.(interface{ GetObjectId() []byte }); ok {
		add("object", fmt.Sprintf("%x", r.GetObjectId()))
	}
	if r, ok := request.(interface{ GetObjectIds() [][]byte }); ok && len(r.GetObjectIds()) > 0 {
		add("object", fmt.Sprintf("%x", r.GetObjectIds()[0]))
		if n := len(r.GetObjectIds()); n > 1 {
			parts = append(parts, fmt.Sprintf("and %d more", n-1))
		}
	}
	return strings.Join(parts, " ")
}

// tokenName is what a token is called that somebody has named by its id, its name, or, by mistake, its text.
func tokenName(text string) string {
	if !IsToken(text) {
		return text
	}
	secret, err := ParseSecret(text)
	if err != nil {
		return "mistyped"
	}
	return secret.ID
}
