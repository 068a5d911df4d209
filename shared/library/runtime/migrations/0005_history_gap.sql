-- A row without a decision is a gap: an instance started that keeps no history, so what follows may lack decisions.
alter table history alter column decided drop not null;
