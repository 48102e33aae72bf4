-- Version 3: what the pictures of a source show.

-- The sources that have answers, or pictures that wait for one.
CREATE TABLE observed (
    id       INTEGER PRIMARY KEY,
    source   BLOB NOT NULL UNIQUE,
    arrival  INTEGER NOT NULL,               -- of the latest picture that came; 0 before the first
    sequence INTEGER NOT NULL,               -- of the latest answer; 0 before the first
    waiting  INTEGER NOT NULL,               -- pictures that wait for their answer
    state    TEXT,                           -- what the latest pictures show together; NULL where that is unknown
    since    INTEGER NOT NULL                -- when the picture came that made it so, Unix time, s
) STRICT;

-- Pictures that have come and are to be answered. A row goes in the transaction that adds its answer.
CREATE TABLE unanswered (
    source  INTEGER NOT NULL REFERENCES observed (id),
    arrival INTEGER NOT NULL,                -- the order in which the pictures of the source came
    image   TEXT NOT NULL,
    path    BLOB NOT NULL,                   -- the file that came
    time    INTEGER NOT NULL,                -- when it came, Unix time, s
    turn    INTEGER NOT NULL,                -- 0 at first, 1 where its pixels are not kept, more where its file cannot be read now
    PRIMARY KEY (source, arrival)
) STRICT, WITHOUT ROWID;
CREATE INDEX unanswered_by_turn ON unanswered (source, turn, arrival DESC);
CREATE INDEX unanswered_by_image ON unanswered (image);

-- What the pictures show. Sequences of a source have no gaps; the oldest are forgotten first.
CREATE TABLE answers (
    source        INTEGER NOT NULL REFERENCES observed (id),
    sequence      INTEGER NOT NULL,
    arrival       INTEGER NOT NULL,
    image         TEXT NOT NULL,
    path          BLOB NOT NULL,
    time          INTEGER NOT NULL,
    classifier    TEXT NOT NULL,
    generation    INTEGER NOT NULL,
    label         TEXT NOT NULL,             -- the one that counts: the decision, or the likeliest, or none of these
    probability   REAL,                      -- of that; NULL of none of these
    labels        TEXT NOT NULL,             -- the likeliest with their probabilities, JSON
    margin        REAL NOT NULL,
    doubtful      INTEGER NOT NULL,
    none_of_these INTEGER,                   -- NULL where it is not asked for
    decision      TEXT,                      -- NULL where no thresholds are set
    PRIMARY KEY (source, sequence)
) STRICT, WITHOUT ROWID;
-- Unique: a picture has one answer.
CREATE UNIQUE INDEX answers_by_arrival ON answers (source, arrival DESC);
CREATE INDEX answers_by_label ON answers (source, label, sequence);
CREATE INDEX answers_by_doubt ON answers (source, doubtful, sequence);

-- How many answers each hour of a source has.
CREATE TABLE answered (
    source     INTEGER NOT NULL REFERENCES observed (id),
    hour       INTEGER NOT NULL,             -- its beginning, Unix time, s
    label      TEXT NOT NULL,
    generation INTEGER NOT NULL,
    doubtful   INTEGER NOT NULL,
    answers    INTEGER NOT NULL,
    PRIMARY KEY (source, hour, label, generation, doubtful)
) STRICT, WITHOUT ROWID;

-- What is known already and whose pixels are kept is answered as if it came now, in the order in which it came.
INSERT INTO observed (source, arrival, sequence, waiting, since)
    SELECT paths.source, count(DISTINCT image), 0, 0, 0
    FROM paths JOIN images ON image = id WHERE gone IS NULL AND canonical_px > 0 GROUP BY paths.source;
INSERT INTO unanswered
    SELECT observed.id, row_number() OVER (PARTITION BY observed.id ORDER BY added, image), image, path, added, 0
    FROM (SELECT paths.source, image, min(path) AS path, added
          FROM paths JOIN images ON image = id WHERE gone IS NULL AND canonical_px > 0 GROUP BY paths.source, image) AS known
    JOIN observed ON observed.source = known.source;
UPDATE observed SET waiting = arrival;

-- As in version 2, the counts follow the rows within the transaction that changes these.
CREATE TRIGGER picture_arrived AFTER INSERT ON unanswered BEGIN
    UPDATE observed SET waiting = waiting + 1 WHERE id = NEW.source;
END;
CREATE TRIGGER picture_answered AFTER DELETE ON unanswered BEGIN
    UPDATE observed SET waiting = waiting - 1 WHERE id = OLD.source;
END;
CREATE TRIGGER picture_forgotten AFTER DELETE ON images BEGIN
    DELETE FROM unanswered WHERE image = OLD.id;
END;
CREATE TRIGGER answer_added AFTER INSERT ON answers BEGIN
    INSERT INTO answered VALUES (NEW.source, NEW.time - NEW.time % 3600, NEW.label, NEW.generation, NEW.doubtful, 1)
        ON CONFLICT DO UPDATE SET answers = answers + 1;
END;
CREATE TRIGGER answer_forgotten AFTER DELETE ON answers BEGIN
    UPDATE answered SET answers = answers - 1
        WHERE source = OLD.source AND hour = OLD.time - OLD.time % 3600 AND label = OLD.label
        AND generation = OLD.generation AND doubtful = OLD.doubtful;
    DELETE FROM answered
        WHERE source = OLD.source AND hour = OLD.time - OLD.time % 3600 AND label = OLD.label
        AND generation = OLD.generation AND doubtful = OLD.doubtful AND answers = 0;
END;
