-- Version 14: where this store stands, and where those stood that it speaks with.

-- Each life of this store: from when it was made, or put back from a backup, to when it went back in time. Exactly one has no end.
CREATE TABLE own_epochs (
  epoch TEXT PRIMARY KEY,
  counter INTEGER NOT NULL,                 -- only grows; written before what it stands for is sent
  made_at TEXT NOT NULL,
  ended_at TEXT
) STRICT;
INSERT INTO own_epochs (epoch, counter, made_at)
VALUES (lower(hex(randomblob(16))), 0, strftime('%Y-%m-%dT%H:%M:%fZ', 'now'));

-- Each process that has sent anything from this store, and at which number it began.
CREATE TABLE own_instances (
  instance TEXT PRIMARY KEY,
  epoch TEXT NOT NULL REFERENCES own_epochs(epoch),
  from_counter INTEGER NOT NULL
) STRICT;

-- A life of somebody else's store. 'pending': a site that went back in time, and nobody there has confirmed it yet.
CREATE TABLE peer_epochs (
  peer TEXT NOT NULL,                       -- id of a site, or 'coordinator'
  epoch TEXT NOT NULL,
  status TEXT NOT NULL CHECK (status IN ('current', 'pending', 'past')),
  counter INTEGER NOT NULL,                 -- the highest that was heard
  seen_at TEXT NOT NULL,
  PRIMARY KEY (peer, epoch)
) STRICT;

-- The newest signed statement of each of its processes: shown to it, it says what it has said before.
CREATE TABLE peer_positions (
  peer TEXT NOT NULL,
  instance TEXT NOT NULL,
  counter INTEGER NOT NULL,
  statement TEXT NOT NULL,                  -- JSON as it was signed
  seen_at TEXT NOT NULL,
  PRIMARY KEY (peer, instance)
) STRICT;

-- Of each day on which a site was heard, the head of its audit trail, which only the site can read.
CREATE TABLE peer_trails (
  peer TEXT NOT NULL,
  day TEXT NOT NULL,
  trail TEXT NOT NULL,
  PRIMARY KEY (peer, day)
) STRICT;
