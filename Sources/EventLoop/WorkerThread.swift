internal import CLinux
private import Synchronization

#if canImport(Glibc)
    internal import Glibc
#endif

/// A thread with a name. Blocking C calls live on these and never on Swift's cooperative pool.
public final class WorkerThread: @unchecked Sendable {
    private var handle = pthread_t()
    private let finished = Mutex(false)
    private let end: End

    /// Known to the thread as well as to whoever waits for it.
    private final class End: Sendable { let isReached = Atomic(false) }

    private final class Start {
        let name: String
        let body: @Sendable () -> Void
        let end: End
        init(_ name: String, _ end: End, _ body: @escaping @Sendable () -> Void) { (self.name, self.end, self.body) = (name, end, body) }
    }

    public init(_ name: String, _ body: @escaping @Sendable () -> Void) {
        end = End()
        let start = Unmanaged.passRetained(Start(name, end, body))
        let result = pthread_create(
            &handle, nil,
            { argument in
                guard let argument else { return nil }
                let start = Unmanaged<Start>.fromOpaque(argument).takeRetainedValue()
                martlet_name_thread(start.name)
                start.body()
                start.end.isReached.store(true, ordering: .releasing)
                return nil
            }, start.toOpaque())
        precondition(result == 0, "pthread_create: out of threads (see ulimit -u)")
    }

    /// Waits for the thread's end, so long at most; false: it goes on by itself, as in a call into C that can't be ended.
    public func join(upToMilliseconds limit: Int) -> Bool {
        for _ in 0..<limit / 10 where !end.isReached.load(ordering: .acquiring) { _ = WakeUp.sleep(milliseconds: 10) }
        guard end.isReached.load(ordering: .acquiring) else { return false }
        join()
        return true
    }

    /// Waits for the thread's end; may be called more than once.
    public func join() {
        finished.withLock { done in
            if !done { pthread_join(handle, nil) }
            done = true
        }
    }
}

public enum ProcessUsage {
    /// To the hard limit.
    public static func raiseDescriptorLimit() { martlet_raise_descriptor_limit() }

    /// User plus system time of this process, in seconds.
    public static func cpuSeconds() -> Double {
        var usage = rusage()
        getrusage(0, &usage)  // RUSAGE_SELF
        func seconds(_ value: timeval) -> Double { Double(value.tv_sec) + Double(value.tv_usec) / 1e6 }
        return seconds(usage.ru_utime) + seconds(usage.ru_stime)
    }

    /// Resident memory in bytes, from /proc/self/statm.
    public static func residentBytes() -> Int {
        guard let file = fopen("/proc/self/statm", "r") else { return 0 }
        defer { fclose(file) }
        var line = [CChar](repeating: 0, count: 128)
        guard fgets(&line, 128, file) != nil else { return 0 }
        let text = String(decoding: line.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
        let fields = text.split(separator: " ")
        return fields.count > 1 ? (Int(fields[1]) ?? 0) * Int(sysconf(Int32(_SC_PAGESIZE))) : 0
    }
}

extension WakeUp {
    /// Blocks the calling thread: for threads of our own only.
    public static func sleep(milliseconds: Int) -> Bool { usleep(UInt32(milliseconds) * 1_000) == 0 }
}
