-- A claim may travel in one message with what stands or falls with it.
-- depends: 0002.idempotency

-- Keeps the rest of the message from running where the claim has found the key to be another's.
create function skald.refuse_taken_key() returns boolean
    language plpgsql
as $$
begin
    raise exception sqlstate 'SK001' using message = 'this idempotency key is taken';
end
$$;
