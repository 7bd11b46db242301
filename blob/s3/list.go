package s3

import (
	"context"
	"iter"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/f708428e/engine/blob"
)

// List implements blob.Bucket. Keys that end with a slash, by which some tools mark folders, are passed over.
func (b *Bucket) List(ctx context.Context, prefix string) iter.Seq2[blob.Info, error] {
	return func(yield func(blob.Info, error) bool) {
		in := &sdk.ListObjectsV2Input{Bucket: &b.name, Prefix: b.key(prefix)}
		for {
			var page *sdk.ListObjectsV2Output
			err := b.try(ctx, "list", prefix, func(ctx context.Context, _ bool) (err error) {
				ctx, cancel := b.within(ctx, 0)
				defer cancel()
				page, err = b.client.ListObjectsV2(ctx, in)
				return err
			})
			if err != nil {
				yield(blob.Info{}, err)
				return
			}
			for _, o := range page.Contents {
				key := strings.TrimPrefix(aws.ToString(o.Key), b.prefix)
				if key == "" || strings.HasSuffix(key, "/") {
					continue
				}
				if !yield(blob.Info{Key: key, SizeBytes: aws.ToInt64(o.Size), ETag: aws.ToString(o.ETag), Modified: aws.ToTime(o.LastModified)}, nil) {
					return
				}
			}
			if !aws.ToBool(page.IsTruncated) || page.NextContinuationToken == nil {
				return
			}
			in.ContinuationToken = page.NextContinuationToken
		}
	}
}
