package main

import (
	"testing"

	"github.com/f708428e/engine"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

func TestHeadRemove(t *testing.T) {
	head := &fakeHead{heads: []*enginev1.HeadInfo{
		{HeadId: "h1", Address: "127.0.0.1:10001", Voter: true, Leader: true, State: enginev1.HeadState_HEAD_STATE_LEADS},
		{HeadId: "h2", Address: "127.0.0.1:10011", Voter: true, State: enginev1.HeadState_HEAD_STATE_SILENT},
		{HeadId: "h3", Address: "127.0.0.1:10021", Voter: true, State: enginev1.HeadState_HEAD_STATE_FOLLOWS},
	}}
	c := newConsole(t, head)
	c.run(t, 0, "head", "remove", "127.0.0.1:10011")
	c.wantOut(t, "h2 at 127.0.0.1:10011 removed, 2 heads left\n")
	if head.removed != "h2" {
		t.Errorf("%q was removed", head.removed)
	}
	c.run(t, 0, "head", "remove", "h3")
	c.wantOut(t, "h3 at 127.0.0.1:10021 removed, 2 heads left\nit still runs: stop it\n")
	c.run(t, 0, "head", "remove", "h2", "-o", "json")
	c.wantOut(t, `{
  "head_id": "h2",
  "address": "127.0.0.1:10011",
  "leader": false,
  "voter": true,
  "state": "SILENT"
}
`)

	head.removed = ""
	c.run(t, 1, "head", "remove", "127.0.0.1:1")
	c.wantErr(t, "error: remove head: 127.0.0.1:1: the cluster has no such head\n  hint: `engine status` lists the heads\n")
	for _, args := range [][]string{{"head", "remove"}, {"head", "remove", "h1", "h2"}, {"head", "remove", "h2", "--force"}, {"head", "remve"}} {
		c.run(t, 2, args...)
	}
	if head.removed != "" {
		t.Errorf("%q was removed", head.removed)
	}
	head.err = engine.Errorf(engine.KindConflict, "remove head", "h1", "it is the head that leads")
	c.run(t, 5, "head", "remove", "h1")
	c.wantErr(t, "error: remove head: h1: it is the head that leads\n")
}
