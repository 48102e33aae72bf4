-- Version 4: what a generation that has come to serve says of pictures that earlier ones have answered.

-- Later answers. A picture keeps the answer that it got when it came; these stand beside it.
CREATE TABLE later_answers (
    generation  INTEGER NOT NULL,
    source      INTEGER NOT NULL REFERENCES observed (id),
    arrival     INTEGER NOT NULL,            -- of the picture
    label       TEXT NOT NULL,               -- the one that counts, as in answers
    probability REAL,
    margin      REAL NOT NULL,
    PRIMARY KEY (generation, source, arrival)
) STRICT, WITHOUT ROWID;
CREATE INDEX later_answers_by_picture ON later_answers (source, arrival);
CREATE INDEX answers_by_time ON answers (time, arrival);

-- The generation that serves, and the pictures that it is yet to answer again. One row.
CREATE TABLE serving (
    only       INTEGER PRIMARY KEY CHECK (only = 1),
    generation INTEGER NOT NULL,
    waiting    INTEGER NOT NULL
) STRICT;
INSERT INTO serving VALUES (1, 0, 0);
CREATE TABLE unanswered_again (
    source  INTEGER NOT NULL REFERENCES observed (id),
    arrival INTEGER NOT NULL,
    image   TEXT NOT NULL,
    time    INTEGER NOT NULL,
    PRIMARY KEY (source, arrival)
) STRICT, WITHOUT ROWID;
CREATE INDEX unanswered_again_by_time ON unanswered_again (time DESC, arrival DESC);

CREATE TRIGGER again_added AFTER INSERT ON unanswered_again BEGIN
    UPDATE serving SET waiting = waiting + 1;
END;
CREATE TRIGGER again_removed AFTER DELETE ON unanswered_again BEGIN
    UPDATE serving SET waiting = waiting - 1;
END;
-- They go with the answer.
CREATE TRIGGER answer_and_later_ones AFTER DELETE ON answers BEGIN
    DELETE FROM later_answers WHERE source = OLD.source AND arrival = OLD.arrival;
    DELETE FROM unanswered_again WHERE source = OLD.source AND arrival = OLD.arrival;
END;

-- Sources of whose pictures a part is looked at, in words; the ids of their images are made of it as well.
CREATE TABLE cuts (
    source BLOB PRIMARY KEY,
    part   TEXT NOT NULL
) STRICT, WITHOUT ROWID;
