-- +goose Up

-- How many events went in the POST of an attempt; NULL where it was one by itself.
ALTER TABLE attempt ADD COLUMN batch INTEGER;
