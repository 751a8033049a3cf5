package main

import (
	"flag"
	"fmt"
)

// main reads the command line and starts the backup.
func main() {
	target := flag.String("target", "", "where to")
	flag.Parse()
	fmt.Println(*target)
}
