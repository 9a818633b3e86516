package entries

// node is one value of a file with its place, whichever syntax it was written
// in.
type node struct {
	at    Place
	kind  kind
	text  string // of a text or a number
	flag  bool
	list  []*node
	attrs []member
}

// member is one key of an object with its value.
type member struct {
	name  string
	at    Place
	value *node
	// block is set for HCL's form without an equals sign, which may be repeated.
	block bool
}

type kind int

const (
	kindNull kind = iota
	kindText
	kindNumber
	kindFlag
	kindList
	kindObject
)

var kindWords = [...]string{
	kindNull: "null", kindText: "a text", kindNumber: "a number",
	kindFlag: "true or false", kindList: "a list", kindObject: "an object",
}

func (k kind) String() string { return kindWords[k] }

// maxDepth bounds nesting, so that no file exhausts the stack.
const maxDepth = 32
