package main

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
)

func main() {
	root := flag.String("root", ".", "top `directory` of the repository")
	flag.Parse()
	files, err := generate(*root)
	if err == nil {
		err = write(filepath.Join(*root, vectorsDir), files)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "genvectors:", err)
		os.Exit(1)
	}
}

// vectorsDir is where the vectors are kept, seen from the top of the repository.
const vectorsDir = "clients/testvectors"

// generate returns the content of every file by its name.
func generate(root string) (map[string][]byte, error) {
	files := map[string][]byte{}
	add := func(name string, f *vectorFile, err error) error {
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		var b bytes.Buffer
		if err := f.render(&b); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		files[name] = b.Bytes()
		return nil
	}
	if err := add("spiffe-ids.json", idFile(), nil); err != nil {
		return nil, err
	}
	l4, err := l4File(root)
	if err := add("l4.json", l4, err); err != nil {
		return nil, err
	}
	l7, err := l7File(root)
	if err := add("l7.json", l7, err); err != nil {
		return nil, err
	}
	normalization, err := normalizationFile()
	if err := add("normalization.json", normalization, err); err != nil {
		return nil, err
	}
	documents, err := documentFile()
	return files, add("documents.json", documents, err)
}

func write(dir string, files map[string][]byte) error {
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o644); err != nil {
			return err
		}
	}
	return nil
}
