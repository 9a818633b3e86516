package socketapi_test

import (
	"bytes"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"

	"github.com/connectd/connectd/socketapi"
)

const document = "../docs/openapi.yaml"

// unprovoked names documented answers ("GET /v1/x 503") that no test can
// produce, with the reason.
var unprovoked = map[string]string{}

// TestDocsOpenAPI holds docs/openapi.yaml and running servers to each other:
// every answer must be documented down to its last member, and everything
// documented must have been answered.
func TestDocsOpenAPI(t *testing.T) {
	c := loadContract(t)
	t.Run("routes", c.testRoutes)
	t.Run("services", c.testServices)
	t.Run("blocking", c.testBlocking)
	t.Run("policy", c.testPolicy)
	t.Run("discovery", c.testDiscovery)
	t.Run("authorize", c.testAuthorize)
	t.Run("batch", c.testBatch)
	t.Run("explain", c.testExplain)
	t.Run("admin", c.testAdmin)
	t.Run("administration", c.testAdministration)
	t.Run("wrong_requests", c.testWrongRequests)
	t.Run("every_route", c.testEveryRoute)
	t.Run("unknown_route", c.testUnknownRoute)
	t.Run("failures", c.testFailures)
	t.Run("held", c.testHeld)
	t.Run("nothing_known", c.testNothingKnown)
	t.Run("too_many_names", c.testTooManyNames)
	t.Run("expired", c.testExpired)
	t.Run("stopping", c.testStopping)
	t.Run("coverage", c.testCoverage)
}

// contract is the document, and what was seen of it.
type contract struct {
	doc *openapi3.T

	mu       sync.Mutex // guards produced
	produced map[string]bool
}

func loadContract(t *testing.T) *contract {
	t.Helper()
	doc, err := openapi3.NewLoader().LoadFromFile(document)
	if err != nil {
		t.Fatal(err)
	}
	if err := doc.Validate(t.Context()); err != nil {
		t.Fatal(err)
	}
	close := closer{}
	close.document(doc)
	// The examples must hold without unknown members too.
	if err := doc.Validate(t.Context()); err != nil {
		t.Fatal(err)
	}
	return &contract{doc: doc, produced: map[string]bool{}}
}

// closer forbids members that the document does not name. The document itself
// stays open, because clients ignore what they do not know.
type closer map[*openapi3.Schema]bool

func (c closer) document(doc *openapi3.T) {
	for _, s := range doc.Components.Schemas {
		c.schema(s)
	}
	for _, r := range doc.Components.Responses {
		c.content(r.Value.Content)
	}
	for _, item := range doc.Paths.Map() {
		for _, op := range item.Operations() {
			if op.RequestBody != nil {
				c.content(op.RequestBody.Value.Content)
			}
			for _, r := range op.Responses.Map() {
				c.content(r.Value.Content)
			}
		}
	}
}

func (c closer) content(content openapi3.Content) {
	for _, media := range content {
		c.schema(media.Schema)
	}
}

func (c closer) schema(ref *openapi3.SchemaRef) {
	if ref == nil || c[ref.Value] {
		return
	}
	s := ref.Value
	c[s] = true
	if len(s.Properties) > 0 && s.AdditionalProperties.Schema == nil {
		no := false
		s.AdditionalProperties.Has = &no
	}
	for _, p := range s.Properties {
		c.schema(p)
	}
	for _, list := range []openapi3.SchemaRefs{s.OneOf, s.AnyOf, s.AllOf} {
		for _, one := range list {
			c.schema(one)
		}
	}
	c.schema(s.Items)
	c.schema(s.AdditionalProperties.Schema)
}

// exchange is a request with its answer.
type exchange struct {
	request  *http.Request
	sent     string
	response *http.Response
	body     []byte
}

// check validates an answer.
func (c *contract) check(t testing.TB, x exchange) {
	t.Helper()
	input := c.find(x.request)
	if input == nil {
		// Its operation documents 404, and 400 for paths that are not plain.
		input = c.unknownRoute(x.request)
	}
	answer := &openapi3filter.ResponseValidationInput{
		RequestValidationInput: input, Status: x.response.StatusCode, Header: x.response.Header,
		Options: &openapi3filter.Options{IncludeResponseStatus: true, MultiError: true},
	}
	answer.SetBodyBytes(x.body)
	if err := openapi3filter.ValidateResponse(t.Context(), answer); err != nil {
		t.Errorf("%s %s: the answer is not as documented: %v", x.request.Method, x.request.URL, err)
		return
	}
	c.checkHeaders(t, x, input.Route.Operation)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.produced[produces(input.Route.Method, input.Route.Path, strconv.Itoa(x.response.StatusCode))] = true
}

func produces(method, path, status string) string { return method + " " + path + " " + status }

// checkRequest validates a request that was answered well.
func (c *contract) checkRequest(t testing.TB, x exchange) {
	t.Helper()
	input := c.find(x.request)
	input.Request.Body = io.NopCloser(strings.NewReader(x.sent))
	if err := openapi3filter.ValidateRequest(t.Context(), input); err != nil {
		t.Errorf("%s %s is accepted and not documented so: %v", x.request.Method, x.request.URL, err)
	}
	for name := range x.request.URL.Query() {
		op := input.Route.Operation
		if op.Parameters.GetByInAndName("query", name) == nil &&
			input.Route.PathItem.Parameters.GetByInAndName("query", name) == nil {
			t.Errorf("%s %s: the test uses the undocumented parameter %q", x.request.Method, x.request.URL, name)
		}
	}
}

// transportHeaders belong to HTTP and not to us.
var transportHeaders = []string{"Content-Length", "Content-Type", "Date", "Connection"}

func (c *contract) checkHeaders(t testing.TB, x exchange, op *openapi3.Operation) {
	t.Helper()
	documented := op.Responses.Status(x.response.StatusCode).Value.Headers
	for name := range x.response.Header {
		if documented[name] == nil && !slices.Contains(transportHeaders, name) {
			t.Errorf("%s %s: the header %s is not documented with %d", x.request.Method, x.request.URL, name, x.response.StatusCode)
		}
	}
	if x.response.ContentLength < 0 {
		t.Errorf("%s %s: the answer has no length", x.request.Method, x.request.URL)
	}
}

// find returns the operation that documents the path of a request. Each path
// has one, which also documents the answer to other methods.
func (c *contract) find(req *http.Request) *openapi3filter.RequestValidationInput {
	for pattern, item := range c.doc.Paths.Map() {
		params, ok := match(pattern, req.URL.Path)
		if !ok {
			continue
		}
		for method, op := range item.Operations() {
			return input(req, params, &routers.Route{Spec: c.doc, Path: pattern, PathItem: item, Method: method, Operation: op})
		}
	}
	return nil
}

func input(req *http.Request, params map[string]string, route *routers.Route) *openapi3filter.RequestValidationInput {
	clone := req.Clone(req.Context())
	return &openapi3filter.RequestValidationInput{
		Request: clone, PathParams: params, QueryParams: req.URL.Query(), Route: route,
		Options: &openapi3filter.Options{MultiError: true, SkipSettingDefaults: true},
	}
}

// unknownRoute stands for all paths that nothing is served under.
func (c *contract) unknownRoute(req *http.Request) *openapi3filter.RequestValidationInput {
	op := &openapi3.Operation{Responses: openapi3.NewResponses(
		openapi3.WithStatus(http.StatusNotFound, c.doc.Components.Responses["NoSuchRoute"]),
		openapi3.WithStatus(http.StatusBadRequest, c.doc.Components.Responses["BadRequest"]),
	)}
	return input(req, nil, &routers.Route{Spec: c.doc, Path: "*", PathItem: &openapi3.PathItem{}, Method: req.Method, Operation: op})
}

// match compares a path with a pattern by segments.
func match(pattern, path string) (map[string]string, bool) {
	want, got := strings.Split(pattern, "/"), strings.Split(path, "/")
	if len(want) != len(got) {
		return nil, false
	}
	params := map[string]string{}
	for i := range want {
		switch {
		case strings.HasPrefix(want[i], "{"):
			params[strings.Trim(want[i], "{}")] = got[i]
		case want[i] != got[i]:
			return nil, false
		}
	}
	return params, true
}

// testRoutes compares the paths of the document with what is registered.
func (c *contract) testRoutes(t *testing.T) {
	for name, server := range map[string]*socketapi.Server{
		"main": socketapi.New(socketapi.Config{}), "admin": socketapi.NewAdmin(socketapi.Config{}),
	} {
		registered := map[string]bool{}
		for _, r := range server.Routes() {
			if r.Consul {
				continue
			}
			registered[r.Pattern] = true
			item := c.doc.Paths.Value(r.Pattern)
			if item == nil || item.GetOperation(r.Method) == nil || len(item.Operations()) != 1 {
				t.Errorf("%s socket: %s %s is not documented as the only operation of its path", name, r.Method, r.Pattern)
				continue
			}
			if got := item.GetOperation(r.Method).Extensions["x-connectd-grant"]; got != string(r.Grant) {
				t.Errorf("%s socket: %s is documented with grant %v, want %s", name, r.Pattern, got, r.Grant)
			}
		}
		for path, item := range c.doc.Paths.Map() {
			if !registered[path] && (name == "admin" || item.Extensions["x-connectd-socket"] != "admin") {
				t.Errorf("%s socket: %s is documented and not registered", name, path)
			}
		}
	}
}

// testCoverage runs last: what is documented must have been answered.
func (c *contract) testCoverage(t *testing.T) {
	documented := map[string]bool{}
	for path, item := range c.doc.Paths.Map() {
		for method, op := range item.Operations() {
			for status := range op.Responses.Map() {
				documented[produces(method, path, status)] = true
			}
		}
	}
	for _, answer := range slices.Sorted(maps.Keys(documented)) {
		if !c.produced[answer] && unprovoked[answer] == "" {
			t.Errorf("%s is documented and was never answered", answer)
		}
	}
	for answer := range unprovoked {
		if c.produced[answer] || !documented[answer] {
			t.Errorf("the exception for %s has no use", answer)
		}
	}
}

// send sends one request to a server.
func (c *contract) send(t testing.TB, client *http.Client, method, path, body string) exchange {
	t.Helper()
	target, err := url.Parse("http://connectd" + path)
	if err != nil {
		t.Fatal(err)
	}
	req := (&http.Request{Method: method, URL: target, Header: http.Header{}}).WithContext(t.Context())
	if body != "" {
		req.Body, req.ContentLength = io.NopCloser(bytes.NewBufferString(body)), int64(len(body))
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	return exchange{request: req, sent: body, response: resp, body: raw}
}
