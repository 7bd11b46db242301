package access_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/internal/rpc"
	"github.com/f708428e/engine/internal/security/access"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// joins lets nodes join that nobody knows, when it is told to.
type joins struct {
	enginev1.UnimplementedJoinServiceServer
	come, hold chan struct{}
}

func (j *joins) Join(ctx context.Context, r *enginev1.JoinRequest) (*enginev1.JoinResponse, error) {
	if r.GetName() != "waits" {
		return &enginev1.JoinResponse{}, nil
	}
	j.come <- struct{}{}
	select {
	case <-j.hold:
	case <-ctx.Done():
	}
	return &enginev1.JoinResponse{}, nil
}

// Strangers may join, a few at a time, and send little.
func TestStrangers(t *testing.T) {
	j := &joins{come: make(chan struct{}, 10), hold: make(chan struct{})}
	address := serve(t, newGuard(t, access.Config{UID: stranger, Limits: access.Limits{Strangers: 8}}), &services{joins: j})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	join := func(ctx context.Context, name string) error {
		_, err := enginev1.NewJoinServiceClient(dial(t, address, "")).Join(ctx, &enginev1.JoinRequest{Name: name})
		return err
	}
	ended := make(chan error, 2)
	one, giveUp := context.WithCancel(ctx)
	defer giveUp()
	for _, waiting := range []context.Context{one, ctx} {
		go func() { ended <- join(waiting, "waits") }()
		<-j.come
	}
	wantKind(t, join(ctx, "third"), engine.KindExhausted, "too many join")
	// Who goes away makes room.
	giveUp()
	wantKind(t, <-ended, engine.KindCanceled)
	for {
		err := join(ctx, "third")
		if err == nil {
			break
		}
		wantKind(t, err, engine.KindExhausted)
	}
	close(j.hold)
	check(t, <-ended)

	// What is too long for a stranger is not read to its end.
	wantKind(t, join(ctx, strings.Repeat("n", 8<<20)), engine.KindUnavailable)
	conn := dial(t, address, "operate")
	_, err := enginev1.NewJobServiceClient(conn).StopJob(ctx, &enginev1.StopJobRequest{JobId: strings.Repeat("j", 8<<20)}, grpc.MaxCallSendMsgSize(rpc.MaxMessageBytes))
	check(t, err)
}
