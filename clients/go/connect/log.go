package connect

import (
	"context"
	"log/slog"

	"github.com/hashicorp/go-hclog"
)

// logAdapter writes what the client says to the application's own logger.
type logAdapter struct {
	logger hclog.Logger
}

// Enabled asks the application's logger.
func (a logAdapter) Enabled(_ context.Context, level slog.Level) bool {
	switch {
	case level >= slog.LevelError:
		return a.logger.IsError()
	case level >= slog.LevelWarn:
		return a.logger.IsWarn()
	case level >= slog.LevelInfo:
		return a.logger.IsInfo()
	}
	return a.logger.IsDebug()
}

// Handle writes one line.
func (a logAdapter) Handle(_ context.Context, r slog.Record) error {
	level := hclog.Debug
	switch {
	case r.Level >= slog.LevelError:
		level = hclog.Error
	case r.Level >= slog.LevelWarn:
		level = hclog.Warn
	case r.Level >= slog.LevelInfo:
		level = hclog.Info
	}
	var pairs []any
	r.Attrs(func(x slog.Attr) bool {
		pairs = append(pairs, x.Key, x.Value.Any())
		return true
	})
	a.logger.Log(level, r.Message, pairs...)
	return nil
}

// WithAttrs keeps attributes for every line.
func (a logAdapter) WithAttrs(attrs []slog.Attr) slog.Handler {
	var pairs []any
	for _, x := range attrs {
		pairs = append(pairs, x.Key, x.Value.Any())
	}
	return logAdapter{a.logger.With(pairs...)}
}

// WithGroup is not used by the client: the names stay as they are.
func (a logAdapter) WithGroup(string) slog.Handler { return a }
