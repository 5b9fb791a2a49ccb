CREATE TABLE messages (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    room_id     bigint NOT NULL REFERENCES rooms,
    author_id   bigint NOT NULL REFERENCES users,
    body        text NOT NULL CHECK (char_length(body) BETWEEN 1 AND 4000),
    -- Chosen by the author: sending the same message again, after an answer got lost, does not post it twice.
    client_key  text CHECK (char_length(client_key) BETWEEN 1 AND 64),
    created_at  timestamptz NOT NULL DEFAULT now(),
    -- Serves the history of a room, and lets a read marker refer to a message of its own room.
    UNIQUE (room_id, id),
    UNIQUE (room_id, author_id, client_key)
);
