-- +goose Up

-- What the client's request held that the API does not know: a JSON object. It may hold
-- credentials, so it is sealed, and wiped when the subscription is deleted.
ALTER TABLE subscription ADD COLUMN client TEXT;
