package head

import (
	"context"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/head/api"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// pages reads for the web's pages what the present reign knows. It implements web.Jobs.
type pages struct {
	gate *gate
}

// ReadJob implements web.Jobs.
func (p pages) ReadJob(ctx context.Context, id string, lines int) (job *enginev1.Job, log []*enginev1.LogLine, earlier int, err error) {
	court, service, err := p.gate.enter(enginev1.JobService_ServiceDesc.ServiceName)
	if err != nil {
		return nil, nil, 0, err
	}
	defer court.calls.Done()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(court.ctx, cancel)()
	jobs, ok := service.(*api.Jobs)
	if !ok {
		return nil, nil, 0, engine.Errorf(engine.KindInternal, "show job", id, "the service of jobs is a %T", service)
	}
	return jobs.Describe(ctx, id, lines)
}
