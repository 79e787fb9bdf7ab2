import com.sun.management.OperatingSystemMXBean;
import java.lang.management.ManagementFactory;
import java.net.InetSocketAddress;
import java.net.StandardSocketOptions;
import java.nio.ByteBuffer;
import java.nio.channels.SelectionKey;
import java.nio.channels.Selector;
import java.nio.channels.SocketChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.*;
import java.util.concurrent.ArrayBlockingQueue;
import javax.crypto.Mac;
import javax.crypto.spec.SecretKeySpec;
import org.apache.kafka.clients.consumer.*;
import org.apache.kafka.clients.producer.*;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.*;

/**
 * What a delivery costs a worker on the JVM, as tight as one would write it: Kafka's own client, and requests over NIO from one thread, without an
 * HTTP library and without strings. Does what reference.c does, and as little else.
 *
 *   Peer BROKERS TOPIC ATTEMPTS PARTITIONS COUNT PORT CONNECTIONS
 *
 * Prints one line of JSON: deliveries a second, CPU in microseconds per delivery, resident memory. Of the second half of the deliveries: the JVM
 * compiles during the first.
 */
final class Peer {
    static final byte[] NONE = {}, ID_ABSENT = ascii("dlv_none"), DOT = ascii(".");

    static byte[] ascii(String text) { return text.getBytes(StandardCharsets.US_ASCII); }

    static final class Connection {
        final ByteBuffer out = ByteBuffer.allocateDirect(128 * 1024), in = ByteBuffer.allocateDirect(4096);
        SocketChannel channel;
        SelectionKey key;
        ConsumerRecord<byte[], byte[]> record;
        byte[] id;
        long started;
    }

    /** An attempt record's parts, one after another. */
    static final class Text {
        byte[] bytes = new byte[2048];
        int size;

        Text put(byte[] part) {
            System.arraycopy(part, 0, bytes, size, part.length);
            size += part.length;
            return this;
        }
        Text put(long number) { return put(ascii(Long.toString(number))); }
    }

    static final byte[][] ATTEMPT = Arrays.stream(new String[] {
        "{\"v\":1,\"deliveryId\":\"", "\",\"messageId\":\"", "\",\"endpointId\":\"",
        "\",\"tenant\":\"default\",\"type\":\"bench.made\",\"url\":\"http://127.0.0.1/\",\"attempt\":1,\"startedMs\":", ",\"durationMs\":{\"total\":",
        ",\"dns\":null,\"connect\":null,\"tls\":null,\"firstByte\":1},\"status\":200,\"outcome\":\"delivered\",\"errorClass\":null,\"error\":null,"
            + "\"responseExcerpt\":null,\"nextAttemptMs\":null,\"deadReason\":null,\"worker\":\"peer\",\"traceId\":null}"}).map(Peer::ascii).toArray(byte[][]::new);
    static final byte[] POST = ascii("POST /"),
        LINES = ascii(" HTTP/1.1\r\nHost: 127.0.0.1\r\ncontent-type: application/json\r\nuser-agent: peer\r\nAccept: */*\r\nwebhook-id: "),
        TIME = ascii("\r\nwebhook-timestamp: "), SIGNATURE = ascii("\r\nwebhook-signature: v1,"), LENGTH = ascii("\r\nContent-Length: "), END = ascii("\r\n\r\n");

    static Mac mac;
    static final byte[] code = new byte[32], signature = new byte[44];
    static byte[] wallText = NONE;
    static long wallSeconds;

    static byte[] header(ConsumerRecord<byte[], byte[]> record, String name, byte[] otherwise) {
        var header = record.headers().lastHeader(name);
        return header == null ? otherwise : header.value();
    }

    static void deliver(Connection c, ConsumerRecord<byte[], byte[]> record) throws Exception {
        c.record = record;
        c.id = header(record, "martlet-delivery-id", ID_ABSENT);
        c.started = System.nanoTime();
        mac.update(c.id);
        mac.update(DOT);
        mac.update(wallText);
        mac.update(DOT);
        mac.update(record.value());
        mac.doFinal(code, 0);
        Base64.getEncoder().encode(code, signature);
        c.out.clear().put(POST).put(header(record, "martlet-endpoint-id", NONE)).put(LINES).put(c.id).put(TIME).put(wallText).put(SIGNATURE).put(signature)
            .put(LENGTH).put(ascii(Integer.toString(record.value().length))).put(END).put(record.value()).flip();
        write(c);
    }

    static void write(Connection c) throws Exception {
        c.channel.write(c.out);
        int wanted = c.out.hasRemaining() ? SelectionKey.OP_READ | SelectionKey.OP_WRITE : SelectionKey.OP_READ;
        if (c.key.interestOps() != wanted) c.key.interestOps(wanted);
    }

    static void check(RecordMetadata written, Exception error) {
        if (error != null) fail(Thread.currentThread(), error);
    }
    static void fail(Thread thread, Throwable error) {
        error.printStackTrace();
        Runtime.getRuntime().halt(1);
    }

    public static void main(String[] words) throws Exception {
        Thread.setDefaultUncaughtExceptionHandler(Peer::fail);
        // Like the programs in C: not longer than this, whatever becomes of the one that started it.
        new Timer(true).schedule(new TimerTask() {
            @Override public void run() { fail(Thread.currentThread(), new IllegalStateException("not done in 20 minutes")); }
        }, 1_200_000);
        String brokers = words[0], topic = words[1], attempts = words[2];
        int partitions = Integer.parseInt(words[3]), port = Integer.parseInt(words[5]), connections = Integer.parseInt(words[6]);
        long wanted = Long.parseLong(words[4]), half = wanted / 2, done = 0, began = 0, cpu = 0;
        var system = (OperatingSystemMXBean) ManagementFactory.getOperatingSystemMXBean();
        mac = Mac.getInstance("HmacSHA256");
        mac.init(new SecretKeySpec(ascii("0123456789abcdef0123456789abcdef"), "HmacSHA256"));

        var producer = new KafkaProducer<byte[], byte[]>(Map.of("bootstrap.servers", brokers, "linger.ms", "100", "compression.type", "lz4", "buffer.memory", "134217728"),
            new ByteArraySerializer(), new ByteArraySerializer());
        var selector = Selector.open();
        var idle = new ArrayDeque<Connection>();
        for (int i = 0; i < connections; i++) {
            var c = new Connection();
            c.channel = SocketChannel.open(new InetSocketAddress("127.0.0.1", port));
            c.channel.setOption(StandardSocketOptions.TCP_NODELAY, true);
            c.channel.configureBlocking(false);
            c.key = c.channel.register(selector, SelectionKey.OP_READ, c);
            idle.add(c);
        }
        // Its consumer waits for brokers, the selector for receivers: a thread each.
        var batches = new ArrayBlockingQueue<ConsumerRecords<byte[], byte[]>>(8);
        var reading = new Thread(() -> {
            var consumer = new KafkaConsumer<byte[], byte[]>(Map.of("bootstrap.servers", brokers, "enable.auto.commit", "false", "auto.offset.reset", "earliest",
                "fetch.max.wait.ms", "15", "check.crcs", "false", "max.poll.records", "500"), new ByteArrayDeserializer(), new ByteArrayDeserializer());
            var all = new ArrayList<TopicPartition>();
            for (int i = 0; i < partitions; i++) all.add(new TopicPartition(topic, i));
            consumer.assign(all);
            consumer.seekToBeginning(all);
            try {
                while (true) {
                    var records = consumer.poll(Duration.ofMillis(100));
                    if (records.isEmpty()) continue;
                    batches.put(records);
                    selector.wakeup();
                }
            } catch (InterruptedException ended) {
            }
        });
        reading.setDaemon(true);
        reading.start();

        Iterator<ConsumerRecord<byte[], byte[]>> batch = Collections.emptyIterator();
        var text = new Text();
        while (done < wanted) {
            boolean isReady = !idle.isEmpty() && (batch.hasNext() || !batches.isEmpty());
            if (isReady) selector.selectNow(); else selector.select(100);
            if (System.currentTimeMillis() / 1000 != wallSeconds) wallText = ascii(Long.toString(wallSeconds = System.currentTimeMillis() / 1000));
            for (var key : selector.selectedKeys()) {
                var c = (Connection) key.attachment();
                if (key.isWritable()) write(c);
                if (!key.isReadable()) continue;
                int n = c.channel.read(c.in.clear());
                // The receiver is ours: a whole answer without a body in one piece.
                if (n < 16 || c.record == null || c.in.get(9) != '2') throw new IllegalStateException("an answer that isn't expected");
                text.size = 0;
                text.put(ATTEMPT[0]).put(c.id).put(ATTEMPT[1]).put(c.id).put(ATTEMPT[2]).put(c.record.key()).put(ATTEMPT[3]).put(wallSeconds * 1000).put(ATTEMPT[4])
                    .put((System.nanoTime() - c.started) / 1_000_000).put(ATTEMPT[5]);
                producer.send(new ProducerRecord<>(attempts, c.record.key(), Arrays.copyOf(text.bytes, text.size)), Peer::check);
                c.record = null;
                idle.add(c);
                if (++done == half) {
                    began = System.nanoTime();
                    cpu = system.getProcessCpuTime();
                }
            }
            selector.selectedKeys().clear();
            while (!idle.isEmpty()) {
                if (!batch.hasNext()) {
                    var next = batches.poll();
                    if (next == null) break;
                    batch = next.iterator();
                }
                deliver(idle.poll(), batch.next());
            }
        }
        double seconds = (System.nanoTime() - began) / 1e9;
        producer.flush();
        long counted = wanted - half, kilobytes = Long.parseLong(Files.readString(Path.of("/proc/self/status")).replaceAll("(?s).*VmHWM:\\s*(\\d+).*", "$1"));
        System.out.printf(Locale.ROOT, "{\"per_second\": %.0f, \"cpu_us\": %.3f, \"rss_mb\": %.1f}%n", counted / seconds, (system.getProcessCpuTime() - cpu) / 1e3 / counted, kilobytes / 1024.0);
        System.out.flush();
        Runtime.getRuntime().halt(0);
    }
}
