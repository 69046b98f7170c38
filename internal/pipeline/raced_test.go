//go:build race

package pipeline

// raced says that everything takes ten times as long: a sample has to do.
const raced = true
