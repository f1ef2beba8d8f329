"""The tables of a run's record: what a person may query, and a program may rely on.

Times are seconds since 1970. `code` is the verdict; `number` is an update's place in the order of folding, null where
it was refused. `payloads` says where the payloads of accepted updates lie, in files beside this one (`segments`), each
of which begins after a version whose params are kept as long as it is. `arrays` holds the params of recent versions,
float32, little-endian, in the order of the schema in `meta`. `settings` are those that shape a commit; each version
names its own. In `reports`, `personal` counts as `correct` does, with the node's own part beside the version.
"""

FORMAT = 2

PAYLOADS = """
create table payloads (
    number integer primary key, segment integer not null, start integer not null, size integer not null,
    crc integer not null
);
create table segments (segment integer primary key, version integer not null);
create table settings (id integer primary key, at real not null, value text not null unique);
"""

TABLES = (
    PAYLOADS
    + """
create table meta (key text primary key, value text not null) without rowid;
create table versions (
    version integer primary key, cause text not null, updates integer not null, folded integer not null,
    quorum integer not null, invited integer not null, opened_at real not null, closed_at real not null,
    kept_at real not null, step_norm real not null, digest text not null,
    up_goodput integer not null, up_application integer not null,
    down_goodput integer not null, down_application integer not null, settings integer
);
create table arrays (version integer not null, kind text not null, data blob not null, primary key (version, kind));
create table updates (
    node text not null, seq integer not null, at real not null, code text not null, text text not null,
    number integer unique, base_version integer not null, staleness integer not null, weight real not null,
    damping real not null, scale real not null, norm real not null, examples integer not null,
    steps integer not null, loss real, train_s real not null, codec text not null,
    payload_bytes integer not null, frame_bytes integer not null,
    primary key (node, seq)
);
create table nodes (
    node text primary key, name text not null, state text not null, reason text not null, first_at real not null,
    at real not null, examples integer not null, tests integer not null, bytes_up integer not null,
    bytes_down integer not null, strikes integer not null
) without rowid;
create table reports (
    node text not null, version integer, at real not null, examples integer not null, correct integer not null,
    loss real, personal integer
);
create index reports_by_version on reports (version);
create table events (at real not null, level text not null, event text not null, fields text not null);
insert into segments values (1, 0);
"""
)
