internal import CLinux
private import Synchronization

#if canImport(Glibc)
    internal import Glibc
#endif

/// One epoll instance, owned by one thread. Every file descriptor carries a token of the owner's choosing.
public final class EventLoop {
    public struct Interest: OptionSet, Sendable {
        public let rawValue: UInt32
        public init(rawValue: UInt32) { self.rawValue = rawValue }
        public static let readable = Interest(rawValue: 0x001)
        public static let writable = Interest(rawValue: 0x004)
        /// Reported whether asked for or not: error or hang-up.
        public static let failed = Interest(rawValue: 0x008 | 0x010)
        /// Reported once each time that it happens, not for as long as it is so: nothing has to be read.
        static let once = Interest(rawValue: 1 << 31)
    }

    public struct Ready {
        public let token: UInt64
        public let interest: Interest
    }

    private static let batchLimit = 256
    private let descriptor: Int32
    private let events: UnsafeMutablePointer<epoll_event>

    public init() {
        descriptor = epoll_create1(Int32(bitPattern: UInt32(0o2000000)))
        precondition(descriptor >= 0, "epoll_create1: out of file descriptors (see ulimit -n)")
        events = .allocate(capacity: Self.batchLimit)
    }

    deinit {
        close(descriptor)
        events.deallocate()
    }

    /// Starts watching `fd`, or changes what it is watched for.
    public func watch(_ fd: Int32, for interest: Interest, token: UInt64) {
        if martlet_epoll_control(descriptor, 1, fd, interest.rawValue, token) != 0, errno == EEXIST {
            _ = martlet_epoll_control(descriptor, 3, fd, interest.rawValue, token)
        }
    }

    /// Wakes it for an inbox that has something, and had nothing before.
    public func watch(_ inbox: Inbox<some Sendable>, token: UInt64) {
        watch(inbox.wakeUp.descriptor, for: [.readable, .once], token: token)
    }

    /// Of a descriptor that is watched.
    public func change(_ fd: Int32, for interest: Interest, token: UInt64) {
        _ = martlet_epoll_control(descriptor, 3, fd, interest.rawValue, token)
    }

    /// Stops watching; a descriptor that is closed or unknown is no error.
    public func forget(_ fd: Int32) { _ = martlet_epoll_control(descriptor, 2, fd, 0, 0) }

    /// Waits up to `milliseconds` (0: not at all) and calls `body` for each ready descriptor. True when there may be more of them, which come first
    /// next time.
    @discardableResult
    public func wait(milliseconds: Int, _ body: (Ready) -> Void) -> Bool {
        let count = epoll_wait(descriptor, events, Int32(Self.batchLimit), Int32(clamping: max(0, milliseconds)))
        guard count > 0 else { return false }
        for index in 0..<count {
            let flags = martlet_epoll_events(events, index)
            body(Ready(token: martlet_epoll_token(events, index), interest: Interest(rawValue: flags)))
        }
        return count == Self.batchLimit
    }
}

/// Wakes an event loop from another thread: an eventfd.
public final class WakeUp: Sendable {
    public let descriptor: Int32

    public init() {
        descriptor = eventfd(0, Int32(0o4000 | 0o2000000))
        precondition(descriptor >= 0, "eventfd: out of file descriptors (see ulimit -n)")
    }

    deinit { close(descriptor) }

    public func signal() {
        var one: UInt64 = 1
        _ = write(descriptor, &one, 8)
    }

    public func clear() {
        var count: UInt64 = 0
        _ = read(descriptor, &count, 8)
    }
}

/// Messages to one thread, handed over in batches. The thread's loop watches it.
public final class Inbox<Message: Sendable>: Sendable {
    private let messages = Mutex<[Message]>([])
    fileprivate let wakeUp = WakeUp()

    public init() {}

    public func send(_ message: Message) {
        let wasEmpty = messages.withLock { list in
            list.append(message)
            return list.count == 1
        }
        if wasEmpty { wakeUp.signal() }
    }

    public func drain() -> [Message] {
        messages.withLock { list in
            defer { list = [] }
            return list
        }
    }
}

public enum SystemClock {
    /// Milliseconds since boot, time asleep included (CLOCK_BOOTTIME).
    public static func monotonicMilliseconds() -> Int64 { milliseconds(7) }
    /// Milliseconds since 1970 (CLOCK_REALTIME).
    public static func wallMilliseconds() -> Int64 { milliseconds(0) }
    public static func monotonicMicroseconds() -> Int64 {
        var time = timespec()
        clock_gettime(7, &time)
        return Int64(time.tv_sec) * 1_000_000 + Int64(time.tv_nsec) / 1_000
    }

    private static func milliseconds(_ clock: Int32) -> Int64 {
        var time = timespec()
        clock_gettime(clock, &time)
        return Int64(time.tv_sec) * 1_000 + Int64(time.tv_nsec) / 1_000_000
    }
}
