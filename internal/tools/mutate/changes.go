package main

import (
	"fmt"
	"go/ast"
	"go/token"
	"slices"
	"strconv"
	"strings"
)

// operators gives what each operator is changed into: comparisons are
// reversed, and moved by one at the boundary.
var operators = map[token.Token][]string{
	token.EQL: {"!="}, token.NEQ: {"=="},
	token.LSS: {"<=", ">="}, token.LEQ: {"<", ">"}, token.GTR: {">=", "<="}, token.GEQ: {">", "<"},
	token.LAND: {"||"}, token.LOR: {"&&"},
	token.ADD: {"-"}, token.SUB: {"+"}, token.SHL: {">>"}, token.SHR: {"<<"}, token.AND: {"|"}, token.OR: {"&"},
}

func (f *finder) visit(n ast.Node) bool {
	switch n := n.(type) {
	case *ast.FuncLit:
		outer := f.signature
		f.signature = n.Type
		ast.Inspect(n.Body, f.visit)
		f.signature = outer
		return false
	case *ast.BinaryExpr:
		f.binary(n)
	case *ast.UnaryExpr:
		if n.Op == token.NOT {
			f.replace(n, f.text(n.X))
		}
	case *ast.Ident:
		f.constant(n)
	case *ast.BasicLit:
		if value, err := strconv.ParseInt(n.Value, 0, 64); n.Kind == token.INT && err == nil {
			f.replace(n, strconv.FormatInt(value+1, 10))
		}
	case *ast.IfStmt:
		f.condition(n.Cond)
	case *ast.ForStmt:
		if n.Cond != nil {
			f.replace(n.Cond, f.never(n.Cond))
		}
	case *ast.SwitchStmt:
		f.cases(n)
	case *ast.ReturnStmt:
		f.results(n)
	case *ast.BlockStmt:
		f.drop(n.List)
	case *ast.CaseClause:
		f.drop(n.Body)
	}
	return true
}

func (f *finder) binary(n *ast.BinaryExpr) {
	for _, operator := range operators[n.Op] {
		f.add(n, n.OpPos, n.OpPos+token.Pos(len(n.Op.String())), operator)
	}
	// An operand that makes no difference has to be noticed as well.
	for _, operand := range []ast.Expr{n.X, n.Y} {
		switch n.Op {
		case token.LAND:
			f.add(n, operand.Pos(), operand.End(), f.always(operand))
		case token.LOR:
			f.add(n, operand.Pos(), operand.End(), f.never(operand))
		}
	}
}

// always and never return conditions that mention what the original mentions,
// because the compiler refuses variables without a use.
func (f *finder) always(cond ast.Expr) string { return "(true || " + f.text(cond) + ")" }

func (f *finder) never(cond ast.Expr) string { return "(false && (" + f.text(cond) + "))" }

func (f *finder) constant(n *ast.Ident) {
	switch n.Name {
	case "true":
		f.replace(n, "false")
	case "false":
		f.replace(n, "true")
	}
}

func (f *finder) condition(cond ast.Expr) {
	f.replace(cond, f.always(cond))
	f.replace(cond, f.never(cond))
}

// cases lets no clause of a switch without a tag hold, one after another.
func (f *finder) cases(n *ast.SwitchStmt) {
	for _, clause := range n.Body.List {
		for _, expression := range clause.(*ast.CaseClause).List {
			if n.Tag == nil {
				f.replace(expression, f.never(expression))
			}
		}
	}
}

// drop leaves statements out that only have an effect.
func (f *finder) drop(list []ast.Stmt) {
	for _, s := range list {
		switch s := s.(type) {
		case *ast.ExprStmt, *ast.IncDecStmt, *ast.BranchStmt, *ast.DeferStmt:
			f.replace(s, "")
		case *ast.AssignStmt:
			if s.Tok != token.DEFINE {
				f.replace(s, f.unassigned(s))
			}
		}
	}
}

// unassigned mentions what an assignment mentions.
func (f *finder) unassigned(s *ast.AssignStmt) string {
	var mentioned []string
	for _, e := range slices.Concat(s.Lhs, s.Rhs) {
		if text := f.text(e); text != "nil" && text != "_" && len(s.Lhs) == len(s.Rhs) {
			mentioned = append(mentioned, text)
		}
	}
	if len(mentioned) == 0 {
		return ""
	}
	return strings.Repeat("_, ", len(mentioned)-1) + "_ = " + strings.Join(mentioned, ", ")
}

// results replaces what is returned by constants of its type.
func (f *finder) results(n *ast.ReturnStmt) {
	var types []ast.Expr
	if f.signature != nil && f.signature.Results != nil {
		for _, field := range f.signature.Results.List {
			for range max(1, len(field.Names)) {
				types = append(types, field.Type)
			}
		}
	}
	if len(types) != len(n.Results) {
		return
	}
	for i, result := range n.Results {
		if name, ok := result.(*ast.Ident); ok && (name.Name == "true" || name.Name == "false" || name.Name == "nil") {
			continue
		}
		for _, value := range f.constants(types[i]) {
			f.add(n, result.Pos(), result.End(), value)
		}
	}
}

// constants returns values of a type, as far as it is known without checking
// types.
func (f *finder) constants(of ast.Expr) []string {
	switch of := of.(type) {
	case *ast.StarExpr, *ast.ArrayType, *ast.MapType, *ast.FuncType, *ast.InterfaceType:
		return []string{"nil"}
	case *ast.StructType:
		return []string{"struct{}{}"}
	case *ast.Ident:
		return f.named(of.Name)
	}
	return nil
}

func (f *finder) named(name string) []string {
	switch name {
	case "bool":
		return []string{"true", "false"}
	case "string":
		return []string{`""`}
	case "error":
		return []string{"nil"}
	case "int", "int8", "int16", "int32", "int64", "uint", "uint8", "uint16", "uint32", "uint64", "byte", "rune", "float64":
		return []string{"0"}
	}
	switch under := f.types[name].(type) {
	case *ast.StructType:
		return []string{fmt.Sprintf("%s{}", name)}
	case *ast.Ident:
		return f.named(under.Name)
	}
	return nil
}
