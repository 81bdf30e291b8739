package dispatch

import (
	"context"
	"log/slog"
	"net/url"
	"strings"
	"time"
	"unicode/utf8"

	"switchhook/engine"
	"switchhook/engine/catalog"
	"switchhook/engine/dispatchqueue"
)

// longestLoggedError limits the error in a line of logOutcome, in characters.
const longestLoggedError = 120

// logOutcome logs the outcome of an attempt as a short line for developers.
func (d *Dispatcher) logOutcome(r *catalog.CompiledSubscription, en dispatchqueue.Entry, a *engine.Attempt, v verdict) {
	attributes := []slog.Attr{slog.String("id", engine.DeliveryID{Event: en.Event, Subscription: r.Sub.ID}.String()), slog.String("to", hostOf(r.Sub.TargetURL))}
	if a.Response.Status != 0 {
		attributes = append(attributes, slog.Int("status", a.Response.Status))
	}
	level, text := slog.LevelInfo, "delivered"
	switch v.State {
	case engine.StateSucceeded:
		attributes = append(attributes, slog.Duration("took", a.Duration.Round(time.Millisecond)))
	case engine.StateDropped:
		text, attributes = "dropped", append(attributes, slog.String("reason", firstLine(v.Reason)))
	default:
		level, text = slog.LevelWarn, "attempt failed"
		if v.State == engine.StateDead {
			text = "dead letter: no attempt follows"
		}
		attributes = append(attributes, slog.Int("attempt", a.Number), slog.String("error", firstLine(v.Reason)))
		if v.State == engine.StateRetrying {
			attributes = append(attributes, slog.Duration("again_in", time.Until(v.NextAt).Round(time.Second)))
		}
	}
	d.log.LogAttrs(context.Background(), level, text, attributes...)
}

// firstLine returns the first line of a text, at most longestLoggedError characters.
func firstLine(text string) string {
	line, _, more := strings.Cut(text, "\n")
	if utf8.RuneCountInString(line) > longestLoggedError {
		line, more = string([]rune(line)[:longestLoggedError]), true
	}
	if more {
		line += "…"
	}
	return line
}

// hostOf returns the host of a URL, without the parts that may hold credentials.
func hostOf(target string) string {
	if u, err := url.Parse(target); err == nil {
		return u.Host
	}
	return ""
}
