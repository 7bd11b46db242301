package sim

import (
	"github.com/f708428e/engine"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

type taskStream struct{}

func (s *taskStream) breakOff() {}

type taskTable struct{}

func newTaskTable() taskTable     { return taskTable{} }
func (t *taskTable) reconnected() {}
func (t *taskTable) idle() bool   { return true }

func (v *worker) reportTasks(*enginev1.SyncRequest, bool) {}
func (v *worker) takeTasks(*enginev1.SyncResponse)        {}
func (v *worker) admit()                                  {}

func (h *head) wakeSessions([]string)         {}
func (h *head) tellObjects([]engine.ObjectID) {}

type taskClient struct{}

func newTaskClient(*world, int) *taskClient { return &taskClient{} }
func (c *taskClient) settled() bool         { return true }
func (c *taskClient) unfinished() string    { return "" }
func (c *taskClient) finally()              {}
