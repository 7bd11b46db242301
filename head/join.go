package head

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/head/state"
	"github.com/f708428e/engine/internal/rpc"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// joinFile is in the data folder of a head that is about to join a cluster: a list of its heads. Without it a head that died while it
// joined would begin a cluster of its own, under an id that the other cluster knows.
const joinFile = "join"

// joining returns the heads whose cluster this one is to join, which may be none.
func (h *Head) joining(ctx context.Context) ([]string, error) {
	path := filepath.Join(h.config.DataDir, joinFile)
	list := h.config.Join
	if list == "" {
		text, err := os.ReadFile(path)
		if errors.Is(err, os.ErrNotExist) {
			return nil, nil
		}
		if err != nil {
			return nil, engine.Errorf(engine.KindInvalidArgument, "join cluster", path, "%w", err)
		}
		list = string(text)
	}
	addresses, err := rpc.SplitAddresses(strings.TrimSpace(list))
	if err != nil {
		return nil, engine.WrapError("join cluster", "", err)
	}
	if slices.Contains(addresses, h.address) {
		return nil, engine.Errorf(engine.KindInvalidArgument, "join cluster", h.address, "this is the address of the head itself").
			WithHint("name another head of the cluster")
	}
	for _, address := range addresses {
		if err := h.config.CheckAddress(ctx, address); err != nil {
			return nil, engine.WrapError("join cluster", "", err)
		}
	}
	return addresses, nil
}

// remember keeps the heads to join in the data folder.
func (h *Head) remember(addresses []string) error {
	path := filepath.Join(h.config.DataDir, joinFile)
	text := strings.Join(addresses, ",") + "\n"
	if err := os.MkdirAll(h.config.DataDir, 0o700); err != nil {
		return engine.Errorf(engine.KindInvalidArgument, "make data folder", h.config.DataDir, "%w", err)
	}
	file, err := os.OpenFile(path+".new", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return engine.Errorf(engine.KindExhausted, "join cluster", path, "%w", err)
	}
	_, err = file.WriteString(text)
	err = errors.Join(err, file.Sync(), file.Close())
	if err == nil {
		err = os.Rename(path+".new", path)
	}
	if err == nil {
		var folder *os.File
		if folder, err = os.Open(h.config.DataDir); err == nil {
			err = errors.Join(folder.Sync(), folder.Close())
		}
	}
	if err != nil {
		return engine.Errorf(engine.KindExhausted, "join cluster", path, "%w", err)
	}
	return nil
}

// isMember tells whether this head is one of several, as far as it knows.
func (h *Head) isMember() bool {
	heads := h.store.Heads()
	return len(heads) > 1 && slices.ContainsFunc(heads, func(other state.Head) bool { return other.ID == h.store.HeadID() })
}

// join makes this head a member of the cluster of the heads at addresses, if it is none. A member need not ask: the others may be away.
func (h *Head) join(ctx context.Context, addresses []string) error {
	switch {
	case len(addresses) == 0:
		return nil
	case h.isMember():
		return h.forgetJoin()
	case h.clusterID() == "":
		// From the moment in which the others may know this head.
		if err := h.remember(addresses); err != nil {
			return err
		}
	}
	err := h.introduce(ctx, addresses)
	switch engine.KindOf(err) {
	case engine.KindConflict, engine.KindInvalidArgument, engine.KindVersion, engine.KindPermission:
		// The others do not know it.
	default:
		if err != nil {
			return err
		}
	}
	return errors.Join(err, h.forgetJoin())
}

// forgetJoin ends what remember began: this head is in the cluster, or was refused.
func (h *Head) forgetJoin() error {
	path := filepath.Join(h.config.DataDir, joinFile)
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return engine.Errorf(engine.KindInternal, "join cluster", path, "%w", err)
	}
	return nil
}

func (h *Head) clusterID() (id string) {
	h.store.View(func(s *state.State) { id = s.ClusterID })
	return id
}

// introduce has the leader of the heads at addresses add this head, or change its address.
func (h *Head) introduce(ctx context.Context, addresses []string) error {
	conn, err := rpc.DialHeads(strings.Join(addresses, ","), h.config.Security.dialOptions()...)
	if err != nil {
		return err
	}
	request := &enginev1.AddHeadRequest{HeadId: h.store.HeadID(), Address: h.address, Version: h.config.Version, ClusterId: h.clusterID()}
	_, err = enginev1.NewClusterServiceClient(conn).AddHead(ctx, request)
	return engine.WrapError("join cluster", "", errors.Join(err, conn.Close()))
}

// announce tells the cluster the address of this head if it has another one. It tries until it has succeeded.
func (h *Head) announce(ctx context.Context) error {
	var backoff rpc.Backoff
	for {
		changed := h.store.LeaderChanged()
		var others []string
		known := ""
		for _, head := range h.store.Heads() {
			if head.ID == h.store.HeadID() {
				known = head.Address
			} else {
				others = append(others, head.Address)
			}
		}
		if known == h.address || known == "" && len(others) == 0 {
			return nil
		}
		var err error
		switch {
		case known == "":
			return nil // It was removed from the cluster.
		case len(others) > 0:
			err = h.introduce(ctx, others)
		default: // It is alone, and will lead.
			select {
			case <-h.reigned:
			case <-changed:
			case <-ctx.Done():
			}
		}
		switch {
		case ctx.Err() != nil:
			return nil //nolint:nilerr // The head ends.
		case err != nil:
			if backoff.Fresh() {
				h.config.Logger.WarnContext(ctx, "the other heads do not know the address of this one yet", "address", h.address, "error", err)
			}
			backoff.Wait(ctx, nil)
		}
	}
}
