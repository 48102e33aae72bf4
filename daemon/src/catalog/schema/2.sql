-- Version 2: nothing that is asked while images come in takes longer the more images there are, and what nobody needs any more
-- is forgotten.

-- The source in which the image was last seen; NULL where a catalogue of version 1 does not tell.
ALTER TABLE images ADD COLUMN source BLOB;
-- When the file was found to have gone, Unix time, s; NULL while it is there.
ALTER TABLE paths ADD COLUMN gone INTEGER;

-- Intervals are measured by the time since the machine's start, ms, which is told by its boot id.
ALTER TABLE rounds ADD COLUMN started_boot TEXT;
ALTER TABLE rounds ADD COLUMN started_ms INTEGER;
ALTER TABLE rounds ADD COLUMN ended_boot TEXT;
ALTER TABLE rounds ADD COLUMN ended_ms INTEGER;
-- Of a round that learns from images; 64 bits, whichever number they are.
ALTER TABLE rounds ADD COLUMN seed INTEGER;
-- The round that it takes up.
ALTER TABLE rounds ADD COLUMN continues INTEGER;

CREATE INDEX images_by_age ON images (canonical_px, added DESC);
CREATE INDEX paths_by_image ON paths (image, source);
CREATE INDEX paths_gone ON paths (gone) WHERE gone IS NOT NULL;
DROP INDEX paths_by_source;

UPDATE images SET source = (SELECT source FROM paths WHERE image = id LIMIT 1);

-- One row. Images that were ever taken in: it never falls, schedules count by it. And the largest `added` so far.
CREATE TABLE totals (
    only   INTEGER PRIMARY KEY CHECK (only = 1),
    images INTEGER NOT NULL,
    added  INTEGER NOT NULL
) STRICT;
INSERT INTO totals SELECT 1, count(*), coalesce(max(added), 0) FROM images;

-- How many images have canonical pixels of a size.
CREATE TABLE kept (
    canonical_px INTEGER PRIMARY KEY,
    images       INTEGER NOT NULL
) STRICT;
INSERT INTO kept SELECT canonical_px, count(*) FROM images WHERE canonical_px > 0 GROUP BY canonical_px;

-- How many images and quarantined files a source has.
CREATE TABLE sources (
    source      BLOB PRIMARY KEY,
    images      INTEGER NOT NULL,
    quarantined INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO sources
    SELECT source, sum(images), sum(quarantined)
    FROM (SELECT source, count(DISTINCT image) AS images, 0 AS quarantined FROM paths GROUP BY source
          UNION ALL SELECT source, 0, count(*) FROM quarantine GROUP BY source)
    GROUP BY source;

-- The counts follow the rows within the transaction that changes these. A statement that replaces rows ("OR REPLACE") fires no
-- trigger for what it replaces: do not use it on these tables.
CREATE TRIGGER image_added AFTER INSERT ON images BEGIN
    UPDATE totals SET images = images + 1, added = max(added, NEW.added);
    INSERT INTO kept SELECT NEW.canonical_px, 1 WHERE NEW.canonical_px > 0
        ON CONFLICT (canonical_px) DO UPDATE SET images = images + 1;
END;
CREATE TRIGGER image_changed AFTER UPDATE OF canonical_px ON images WHEN OLD.canonical_px IS NOT NEW.canonical_px BEGIN
    UPDATE kept SET images = images - 1 WHERE canonical_px = OLD.canonical_px;
    INSERT INTO kept SELECT NEW.canonical_px, 1 WHERE NEW.canonical_px > 0
        ON CONFLICT (canonical_px) DO UPDATE SET images = images + 1;
END;
CREATE TRIGGER image_removed AFTER DELETE ON images BEGIN
    UPDATE kept SET images = images - 1 WHERE canonical_px = OLD.canonical_px;
END;
CREATE TRIGGER path_added AFTER INSERT ON paths
WHEN NOT EXISTS (SELECT 1 FROM paths WHERE image = NEW.image AND source = NEW.source AND path <> NEW.path) BEGIN
    INSERT INTO sources VALUES (NEW.source, 1, 0) ON CONFLICT (source) DO UPDATE SET images = images + 1;
END;
CREATE TRIGGER path_removed AFTER DELETE ON paths
WHEN NOT EXISTS (SELECT 1 FROM paths WHERE image = OLD.image AND source = OLD.source) BEGIN
    UPDATE sources SET images = images - 1 WHERE source = OLD.source;
END;
CREATE TRIGGER file_quarantined AFTER INSERT ON quarantine BEGIN
    INSERT INTO sources VALUES (NEW.source, 0, 1) ON CONFLICT (source) DO UPDATE SET quarantined = quarantined + 1;
END;
CREATE TRIGGER file_released AFTER DELETE ON quarantine BEGIN
    UPDATE sources SET quarantined = quarantined - 1 WHERE source = OLD.source;
END;
