// Program prints 1, 2, and 3 and comes to the same place after each.
package main

import (
	"fmt"

	"github.com/f708428e/engine/internal/failpoint"
)

func main() {
	for i := range 3 {
		fmt.Print(i + 1)
		failpoint.Hit(failpoint.HeadAccepted)
	}
}
