package secret

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"google.golang.org/protobuf/proto"

	"github.com/f708428e/engine"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

const (
	opSeal = "seal secrets"
	opOpen = "open secrets"
)

// keyBytes is the length of the key of AES-256.
const keyBytes = 32

// domain sets what is sealed here apart from all else that might be sealed with the same key.
const domain = "engine: secrets of job 1\x00"

// Vault seals the secrets of jobs with the key in a file. It is safe for concurrent use.
type Vault struct {
	path string
	// given says that the file is somebody's own, which is not made here.
	given bool

	mu  sync.Mutex
	key *key
}

type key struct {
	id   string
	aead cipher.AEAD
}

// NewVault returns a vault with the key of a file. If the file is given by a user, it must be there; otherwise it is made when something is sealed
// for the first time. A file that others than its owner may read is refused, with engine.KindPermission, and one that holds no key with
// engine.KindInvalidArgument.
func NewVault(path string, given bool) (*Vault, error) {
	v := &Vault{path: path, given: given}
	found, err := readKey(path)
	if errors.Is(err, fs.ErrNotExist) && !given {
		return v, nil
	}
	if err != nil {
		return nil, err
	}
	v.key = found
	return v, nil
}

// readKey reads a key's file. Its errors show nothing of the content.
func readKey(path string) (*key, error) {
	const op = "read key of secrets"
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, engine.Errorf(engine.KindNotFound, op, path, "%w", fs.ErrNotExist)
	case err != nil:
		return nil, engine.Errorf(engine.KindPermission, op, path, "%w", err)
	case info.Mode().Perm()&0o077 != 0:
		return nil, engine.Errorf(engine.KindPermission, op, path, "its mode %04o lets others read or change it", info.Mode().Perm()).WithHint("chmod 600 %s", path)
	}
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, engine.Errorf(engine.KindPermission, op, path, "it cannot be read")
	}
	raw, err := base64.StdEncoding.DecodeString(strings.TrimSpace(string(content)))
	if err != nil || len(raw) != keyBytes {
		return nil, engine.Errorf(engine.KindInvalidArgument, op, path, "it holds no key: 32 random bytes in base64").WithHint("openssl rand -base64 32 makes one")
	}
	return newKey(raw)
}

func newKey(raw []byte) (*key, error) {
	block, err := aes.NewCipher(raw)
	if err != nil {
		return nil, engine.Errorf(engine.KindInternal, opSeal, "", "%w", err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return nil, engine.Errorf(engine.KindInternal, opSeal, "", "%w", err)
	}
	sum := sha256.Sum256(append([]byte("engine: id of the key of secrets\x00"), raw...))
	return &key{id: hex.EncodeToString(sum[:8]), aead: aead}, nil
}

// makeKey makes a key's file, which is durable when it returns. A file that another process has made meanwhile counts.
func makeKey(path string) (_ *key, err error) {
	var raw [keyBytes]byte
	_, _ = rand.Read(raw[:]) // It never fails.
	folder := filepath.Dir(path)
	draft, err := os.CreateTemp(folder, ".secrets-key-*") // Its mode is 0600.
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.Remove(draft.Name())) }()
	_, writeErr := draft.WriteString(base64.StdEncoding.EncodeToString(raw[:]) + "\n")
	if err := errors.Join(writeErr, draft.Sync(), draft.Close()); err != nil {
		return nil, err
	}
	if err := os.Link(draft.Name(), path); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	parent, err := os.Open(folder)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(parent.Sync(), parent.Close()); err != nil {
		return nil, err
	}
	return readKey(path)
}

// sealing returns the key, which it makes if there is none.
func (v *Vault) sealing() (*key, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.key == nil {
		made, err := makeKey(v.path)
		if err != nil {
			return nil, engine.WrapError("make key of secrets", v.path, err)
		}
		v.key = made
	}
	return v.key, nil
}

// Seal encrypts the secrets of a job. It is nil for none.
func (v *Vault) Seal(job engine.JobID, values Values) (*enginev1.SealedSecrets, error) {
	if len(values) == 0 {
		return nil, nil //nolint:nilnil // There is nothing to seal, which is no error.
	}
	k, err := v.sealing()
	if err != nil {
		return nil, err
	}
	plain, err := proto.Marshal(&enginev1.Secrets{Values: values.Message()})
	if err != nil {
		return nil, engine.Errorf(engine.KindInternal, opSeal, string(job), "%w", err)
	}
	return &enginev1.SealedSecrets{KeyId: k.id, Sealed: k.aead.Seal(nil, nil, plain, []byte(domain+string(job)))}, nil
}

// Open decrypts the secrets of a job; nil gives none. The error is of kind engine.KindNotFound if the key is gone or another one by now, and of
// kind engine.KindCorrupt for what was not sealed for this job.
func (v *Vault) Open(job engine.JobID, sealed *enginev1.SealedSecrets) (Values, error) {
	if sealed == nil {
		return nil, nil
	}
	v.mu.Lock()
	k := v.key
	v.mu.Unlock()
	if k == nil || k.id != sealed.GetKeyId() {
		has := "there is none"
		if k != nil {
			has = "this head has key " + k.id
		}
		return nil, engine.Errorf(engine.KindNotFound, opOpen, string(job), "the job's secrets are encrypted under key %.32q of the file %s, and %s", sealed.GetKeyId(), v.path, has).
			WithHint("put the key's file back and restart the head, or submit or resume the job with its secrets; several heads need the same --secrets-key")
	}
	plain, err := k.aead.Open(nil, nil, sealed.GetSealed(), []byte(domain+string(job)))
	if err != nil {
		return nil, engine.Errorf(engine.KindCorrupt, opOpen, string(job), "the job's secrets are damaged")
	}
	opened := &enginev1.Secrets{}
	if err := proto.Unmarshal(plain, opened); err != nil {
		return nil, engine.Errorf(engine.KindCorrupt, opOpen, string(job), "the job's secrets are damaged")
	}
	return ValuesOf(opened.GetValues())
}
