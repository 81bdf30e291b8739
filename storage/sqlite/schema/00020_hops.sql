-- +goose Up

-- Number of deliveries that led to the event, one after the other; NULL for 0.
ALTER TABLE event ADD COLUMN hops INTEGER;
