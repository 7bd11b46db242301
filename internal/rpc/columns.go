package rpc

import (
	"fmt"
	"strings"

	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// maxColumnsListed is how many columns a line for people lists.
const maxColumnsListed = 40

// ListColumns is columns with their types on one line, as people read them: "id int64, text string"; of very many the first.
func ListColumns(columns []*enginev1.ColumnInfo) string {
	var listed []string
	for i, c := range columns {
		if i == maxColumnsListed {
			listed = append(listed, fmt.Sprintf("and %d more", len(columns)-i))
			break
		}
		listed = append(listed, c.GetName()+" "+c.GetType())
	}
	return strings.Join(listed, ", ")
}
