package jobplan

import (
	"context"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/dataset"
	"github.com/f708428e/engine/dataset/text"
)

// layOut plans the source. If the user wants a number of output files, it looks for splits that are small enough to give as many.
func layOut(ctx context.Context, source dataset.Source, files []dataset.File, options dataset.PlanOptions, fileCount int) (*dataset.Layout, error) {
	target := options.TargetSplitBytes
	if target <= 0 {
		target = balancedTarget(files)
	}
	if fileCount > 0 {
		var total int64
		for _, f := range files {
			total += f.SizeBytes
		}
		target = max(1, min(target, total/int64(fileCount)))
	}
	options.TargetSplitBytes = target
	layout, err := source.Plan(ctx, files, options)
	if err != nil {
		return nil, err
	}
	// Halving at most doubles the splits, so there are never many more than wanted.
	for len(layout.Splits) < fileCount && target > 1 && divisible(layout.Splits) {
		target /= 2
		options.TargetSplitBytes = target
		finer, err := source.Plan(ctx, files, options)
		if err != nil {
			return nil, err
		}
		if !finer.Schema.Equal(layout.Schema) {
			return nil, engine.Errorf(engine.KindInternal, "plan job", files[0].Path, "the schema depends on the splits")
		}
		layout = finer
	}
	if len(layout.Splits) == 0 {
		return nil, engine.Errorf(engine.KindInternal, "plan job", files[0].Path, "the source gave no splits")
	}
	return layout, nil
}

// leastBalancedBytes is how small balancedTarget makes splits.
const leastBalancedBytes = 16 << 20

// balancedTarget is how large splits should be if nobody says: smaller than usual where a split would be so large a part of all that cores
// had nothing to do while it is read, be it of a large file among small ones.
func balancedTarget(files []dataset.File) int64 {
	const parts = 8
	var total, largest int64
	for _, f := range files {
		total += f.SizeBytes
		largest = max(largest, f.SizeBytes)
	}
	target := int64(DefaultTargetSplitBytes)
	for target > leastBalancedBytes && min(largest, target) > total/parts {
		target /= 2
	}
	return target
}

// divisible reports whether smaller splits are thinkable: ranges of text, or several row groups.
func divisible(splits []dataset.Split) bool {
	for _, s := range splits {
		if s.RowGroups > 1 || s.RowGroups == 0 && s.EndOffsetBytes-s.StartOffsetBytes > 1 && !text.Compressed(s.File.Path) {
			return true
		}
	}
	return false
}

// divide gives every task its splits, as the output wants them.
func divide(splits []dataset.Split, to output) [][]dataset.Split {
	if most := to.taskBytes(); most > 0 {
		return gather(splits, most)
	}
	return cut(splits, to.count())
}

// maxGathered bounds the splits of a task of many small files.
const maxGathered = 1_000

// gather gives every task as many splits in a row as have about so many bytes: one that is larger stays alone. What a database has nobody
// knows before it is read, so its splits are a task each.
func gather(splits []dataset.Split, most int64) [][]dataset.Split {
	var groups [][]dataset.Split
	sizes := splitSizes(splits)
	for first := 0; first < len(splits); {
		end, size := first+1, sizes[first]
		for end < len(splits) && end-first < maxGathered && !isPostgres(splits[end].File.Path) && size+sizes[end] <= most {
			size += sizes[end]
			end++
		}
		groups = append(groups, splits[first:end])
		first = end
	}
	return groups
}

// cut gives every task its splits: one each, or contiguous groups of about the same size if the user wants a number of files.
func cut(splits []dataset.Split, fileCount int) [][]dataset.Split {
	if fileCount <= 0 || fileCount >= len(splits) {
		groups := make([][]dataset.Split, len(splits))
		for i := range splits {
			groups[i] = splits[i : i+1]
		}
		return groups
	}
	sizes := splitSizes(splits)
	var left int64
	for _, n := range sizes {
		left += n
	}
	groups := make([][]dataset.Split, 0, fileCount)
	for first := 0; first < len(splits); {
		groupsLeft := fileCount - len(groups)
		share := left / int64(groupsLeft)
		end, size := first+1, sizes[first]
		// A split goes where it brings the group nearer to its share; every group after this one gets a split too.
		for end < len(splits) && len(splits)-end > groupsLeft-1 && (groupsLeft == 1 || size+sizes[end]/2 <= share) {
			size += sizes[end]
			end++
		}
		groups = append(groups, splits[first:end])
		left -= size
		first = end
	}
	return groups
}

// splitSizes estimates the bytes of splits: the length of text, and for row groups their share of the file.
func splitSizes(splits []dataset.Split) []int64 {
	rowGroups := map[string]int64{}
	for _, s := range splits {
		rowGroups[s.File.Path] += int64(s.RowGroups)
	}
	sizes := make([]int64, len(splits))
	for i, s := range splits {
		if s.RowGroups > 0 {
			sizes[i] = s.File.SizeBytes / rowGroups[s.File.Path] * int64(s.RowGroups)
		} else {
			// Of a database's nobody knows, so they are the same.
			sizes[i] = max(1, s.EndOffsetBytes-s.StartOffsetBytes)
		}
	}
	return sizes
}
