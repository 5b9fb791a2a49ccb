-- How far each user has read each room.
CREATE TABLE read_markers (
    user_id    bigint NOT NULL REFERENCES users,
    room_id    bigint NOT NULL REFERENCES rooms,
    message_id bigint NOT NULL,
    read_at    timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (user_id, room_id),
    CONSTRAINT read_markers_message_id_fkey FOREIGN KEY (room_id, message_id) REFERENCES messages (room_id, id)
);
