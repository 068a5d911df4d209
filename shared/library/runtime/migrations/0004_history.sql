-- Each input that was decided on, with all that the policy was told and what it came to: kept where `history.keep` is set, for
-- `quadrille replay`. Written in the transaction of the decision. A number is drawn while the decision's rows are locked, so of two
-- decisions that share a row the one with the lower number came first; where they share none, their order says nothing.
create table history (
    number bigint generated always as identity primary key,
    decided json not null
);

-- What all decisions of one build have in common, such as the schemas of its records. Written as an instance starts.
create table history_header (
    id uuid primary key,
    since timestamptz not null default clock_timestamp(),
    header json not null
);
