"""Clients that know nothing of this library, against real servers, from hundreds of user threads at once.

That their waits overlap is shown by the server: it counts who is waiting, and nobody is let go before all are.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

COUNT = 100


def test_redis(run_unmodified: Callable[..., str], redis_port: int) -> None:
    program = """
        import sys, threading, time, redis
        port, count = map(int, sys.argv[1:])
        pool = redis.ConnectionPool(port=port, max_connections=2 * count)
        client = redis.Redis(connection_pool=pool)

        def work(n):
            for _ in range(10):
                client.incr("counter")
            found.append(client.blpop("line", timeout=60))

        found = []
        threads = [threading.Thread(target=work, args=(n,)) for n in range(count)]
        for thread in threads:
            thread.start()
        while client.info("clients")["blocked_clients"] < count:
            time.sleep(0.01)
        client.rpush("line", *range(count))
        for thread in threads:
            thread.join()
        pubsub = client.pubsub()
        pubsub.subscribe("news")
        publisher = threading.Timer(0.01, client.publish, ("news", "hello"))
        publisher.start()
        messages = [message["type"] for _, message in zip(range(2), pubsub.listen())]
        print(int(client.get("counter")), sorted(int(item) for _key, item in found) == list(range(count)), messages)
        print(threading.current_thread().kind)
    """
    output = run_unmodified(program, redis_port, COUNT, needs=("redis",))
    assert output == f"{10 * COUNT} True ['subscribe', 'message']\nuser\n"


# Each thread asks for a lock that the main one holds; when all of them wait for it in the database, it is released.
POSTGRES = """
    import sys, threading, time
    port, count = map(int, sys.argv[1:])

    def connect():
        {connect}

    main = connect()
    main.execute("select pg_advisory_lock(1)")

    def work(n):
        connection = connect()
        rows = connection.execute("select pg_advisory_lock_shared(1), %s::int * 2", (n,)).fetchall()
        found.append(rows[0][1])
        connection.close()

    found = []
    threads = [threading.Thread(target=work, args=(n,)) for n in range(count)]
    for thread in threads:
        thread.start()
    waiting = "select count(*) from pg_locks where locktype = 'advisory' and not granted"
    while main.execute(waiting).fetchone()[0] < count:
        time.sleep(0.01)
    main.execute("select pg_advisory_unlock(1)")
    for thread in threads:
        thread.join()
    print(sorted(found) == [2 * n for n in range(count)], threading.current_thread().kind)
"""
PSYCOPG = """import psycopg
        return psycopg.connect(host="127.0.0.1", port=port, user="postgres", autocommit=True)"""
PG8000 = """import pg8000.dbapi
        connection = pg8000.dbapi.connect(host="127.0.0.1", port=port, user="postgres")
        connection.autocommit = True
        return Wrapped(connection)

    class Wrapped:
        def __init__(self, connection):
            self.connection, self.close = connection, connection.close

        def execute(self, query, parameters=()):
            cursor = self.connection.cursor()
            cursor.execute(query, parameters)
            return cursor"""


@pytest.mark.parametrize(("package", "connect"), [("psycopg", PSYCOPG), ("pg8000", PG8000)])
def test_postgresql(run_unmodified: Callable[..., str], postgres_port: int, package: str, connect: str) -> None:
    output = run_unmodified(POSTGRES.replace("{connect}", connect), postgres_port, COUNT, needs=(package,))
    assert output == "True user\n"


def test_mysql(run_unmodified: Callable[..., str], mariadb_port: int) -> None:
    program = """
        import sys, threading, time, pymysql
        port, count = map(int, sys.argv[1:])

        def connect():
            return pymysql.connect(host="127.0.0.1", port=port, user="root", autocommit=True)

        def query(connection, text, *parameters):
            with connection.cursor() as cursor:
                cursor.execute(text, parameters)
                return cursor.fetchall()

        main = connect()
        query(main, "select get_lock('gate', 60)")

        def work(n):
            connection = connect()
            query(connection, "select get_lock('gate', 60)")
            query(connection, "select release_lock('gate')")
            found.append(query(connection, "select %s * 2", n)[0][0])
            connection.close()

        found = []
        threads = [threading.Thread(target=work, args=(n,)) for n in range(count)]
        for thread in threads:
            thread.start()
        waiting = "select count(*) from information_schema.processlist where state = 'User lock'"
        while query(main, waiting)[0][0] < count:
            time.sleep(0.01)
        query(main, "select release_lock('gate')")
        for thread in threads:
            thread.join()
        print(sorted(found) == [2 * n for n in range(count)], threading.current_thread().kind)
    """
    assert run_unmodified(program, mariadb_port, COUNT, needs=("pymysql",)) == "True user\n"


# A server that answers nobody before all have asked, and as many clients at once.
HTTP = """
    import sys, threading
    from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server
    from socketserver import ThreadingMixIn
    count = int(sys.argv[1])
    everybody = threading.Barrier(count)

    class Server(ThreadingMixIn, WSGIServer):
        request_queue_size = 2 * count

    class Handler(WSGIRequestHandler):
        def log_message(self, *args):
            pass

    def app(environ, start_response):
        everybody.wait()
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [environ["PATH_INFO"].encode()]

    server = make_server("127.0.0.1", 0, app, Server, Handler)
    serving = threading.Thread(target=server.serve_forever)
    serving.start()
    found = []
    {client}

    def work(n):
        found.append(get(f"http://127.0.0.1:{server.server_port}/{n}"))

    threads = [threading.Thread(target=work, args=(n,)) for n in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    server.shutdown()
    serving.join()
    server.server_close()
    print(sorted(found) == sorted(f"/{n}" for n in range(count)), threading.current_thread().kind)
"""
REQUESTS = """import requests
    def get(url):
        return requests.get(url, timeout=60).text"""
URLLIB3 = f"""import urllib3
    pool = urllib3.PoolManager(maxsize={2 * COUNT}, timeout=60)
    def get(url):
        return pool.request("GET", url).data.decode()"""
HTTPX = """import httpx
    client = httpx.Client(limits=httpx.Limits(max_connections=None), timeout=60, trust_env=False)
    def get(url):
        return client.get(url).text"""
URLLIB = """import urllib.request
    def get(url):
        with urllib.request.urlopen(url, timeout=60) as answer:
            return answer.read().decode()"""


@pytest.mark.parametrize(
    ("package", "client"),
    [("urllib", URLLIB), ("requests", REQUESTS), ("urllib3", URLLIB3), ("httpx", HTTPX)],
    ids=lambda each: each if each.isidentifier() else "",
)
def test_http(run_unmodified: Callable[..., str], package: str, client: str) -> None:
    assert run_unmodified(HTTP.replace("{client}", client), COUNT, needs=(package,)) == "True user\n"


def test_xmlrpc(run_unmodified: Callable[..., str]) -> None:
    program = """
        import sys, threading
        from socketserver import ThreadingMixIn
        from xmlrpc.client import ServerProxy
        from xmlrpc.server import SimpleXMLRPCServer
        count = int(sys.argv[1])
        everybody = threading.Barrier(count)

        class Server(ThreadingMixIn, SimpleXMLRPCServer):
            request_queue_size = 2 * count

        def double(n):
            everybody.wait()
            return 2 * n

        server = Server(("127.0.0.1", 0), logRequests=False)
        server.register_function(double)
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        found = []

        def work(n):
            with ServerProxy(f"http://127.0.0.1:{server.server_address[1]}/") as proxy:
                found.append(proxy.double(n))

        threads = [threading.Thread(target=work, args=(n,)) for n in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        server.shutdown()
        serving.join()
        server.server_close()
        print(sorted(found) == [2 * n for n in range(count)], threading.current_thread().kind)
    """
    assert run_unmodified(program, COUNT) == "True user\n"
